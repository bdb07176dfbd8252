package forge

// Limits bounds what is read from a forge. A zero field takes its default. What is larger is an error.
type Limits struct {
	AnswerBytes int64 // one answer; default 8 MiB
	Pages       int   // pages of one list; default 20
	Line        int   // newer commits of the branch that are asked about when a commit was perhaps rebased; default 100
}

func (l Limits) withDefaults() Limits {
	if l.AnswerBytes <= 0 {
		l.AnswerBytes = 8 << 20
	}
	if l.Pages <= 0 {
		l.Pages = 20
	}
	if l.Line <= 0 {
		l.Line = 100
	}
	return l
}

const (
	maxSecretBytes      = 64 << 10 // a token file
	maxCABytes          = 1 << 20  // a CA file
	maxCommentBytes     = 60_000   // GitHub takes 65 536 characters
	maxDescriptionRunes = 140      // of a status: GitHub's limit, the smallest of the three
	maxContextRunes     = 255      // of a status
)
