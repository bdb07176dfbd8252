package forge

import (
	"errors"
	"slices"
	"testing"
	"time"
)

func TestApprovals(t *testing.T) {
	t.Parallel()
	at := func(minute int) time.Time { return time.Date(2026, 11, 3, 10, minute, 0, 0, time.UTC) }
	dba, other := User{Login: "dba-1", ID: 22}, User{Login: "owner-1", ID: 15}
	tests := map[string]struct {
		reviews []Review
		want    []string
	}{
		"none":                           {},
		"one":                            {[]Review{{User: dba, State: Approved, At: at(1)}}, []string{"dba-1"}},
		"withdrawn":                      {[]Review{{User: dba, State: Approved, At: at(1)}, {User: dba, State: ChangesRequested, At: at(2)}}, nil},
		"given again":                    {[]Review{{User: dba, State: ChangesRequested, At: at(1)}, {User: dba, State: Approved, At: at(2)}}, []string{"dba-1"}},
		"in another order":               {[]Review{{User: dba, State: ChangesRequested, At: at(2)}, {User: dba, State: Approved, At: at(1)}}, nil},
		"comment later":                  {[]Review{{User: dba, State: Approved, At: at(1)}, {User: dba, State: Commented, At: at(2)}}, []string{"dba-1"}},
		"dismissed later":                {[]Review{{User: dba, State: Approved, At: at(1)}, {User: dba, State: Dismissed, Dismissed: true, At: at(2)}}, nil},
		"the newest is dismissed":        {[]Review{{User: dba, State: Approved, At: at(1)}, {User: dba, State: Approved, Dismissed: true, At: at(2)}}, nil},
		"the oldest is dismissed":        {[]Review{{User: dba, State: Approved, Dismissed: true, At: at(1)}, {User: dba, State: Approved, At: at(2)}}, []string{"dba-1"}},
		"in the same second":             {[]Review{{ID: 1, User: dba, State: Approved, At: at(1)}, {ID: 2, User: dba, State: ChangesRequested, At: at(1)}}, nil},
		"in the same second, other way":  {[]Review{{ID: 2, User: dba, State: Approved, At: at(1)}, {ID: 1, User: dba, State: ChangesRequested, At: at(1)}}, []string{"dba-1"}},
		"objection without a time":       {[]Review{{User: dba, State: Approved, At: at(1)}, {User: dba, State: ChangesRequested}}, nil},
		"objection without a time first": {[]Review{{User: dba, State: ChangesRequested}, {User: dba, State: Approved, At: at(1)}}, nil},
		"renamed account":                {[]Review{{User: User{Login: "dba-old", ID: 22}, State: Approved, At: at(1)}, {User: dba, State: ChangesRequested, At: at(2)}}, nil},
		"no name":                        {[]Review{{State: Approved, At: at(1)}, {State: Approved, At: at(2)}}, nil},
		"two":                            {[]Review{{User: dba, State: Approved, At: at(1)}, {User: other, State: Approved, At: at(2)}}, []string{"dba-1", "owner-1"}},
		"another's objection":            {[]Review{{User: dba, State: Approved, At: at(1)}, {User: other, State: ChangesRequested, At: at(2)}}, []string{"dba-1"}},
	}
	for name, test := range tests {
		var got []string
		for _, r := range Approvals(&PullRequest{Reviews: test.reviews}) {
			got = append(got, r.User.Login)
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}

func TestContradicts(t *testing.T) {
	t.Parallel()
	at := func(minute int) time.Time { return time.Date(2026, 11, 3, 10, minute, 0, 0, time.UTC) }
	dba, other := User{Login: "dba-1", ID: 22}, User{Login: "owner-1", ID: 15}
	made := func(change func(*PullRequest)) *PullRequest {
		pr := &PullRequest{
			Number: 7, Author: other, Head: "h", MergeCommit: "m", Commits: []Commit{{SHA: "h"}}, Pushers: []User{other}, PushersKnown: true,
			Reviews: []Review{{ID: 1, User: dba, State: Approved, At: at(1)}},
		}
		if change != nil {
			change(pr)
		}
		return pr
	}
	review := func(list ...Review) func(*PullRequest) { return func(pr *PullRequest) { pr.Reviews = list } }
	approved := Review{ID: 1, User: dba, State: Approved, At: at(1)}
	dismissed := Review{ID: 1, User: dba, State: Approved, At: at(1), Dismissed: true}
	objection := Review{ID: 2, User: dba, State: ChangesRequested, At: at(2)}
	again := Review{ID: 3, User: dba, State: Approved, At: at(3)}
	tests := map[string]struct {
		earlier, now *PullRequest
		want         bool
	}{
		"nothing known before":          {nil, made(nil), false},
		"the same":                      {made(nil), made(nil), false},
		"it did not land after all":     {made(nil), nil, true},
		"another":                       {made(nil), made(func(pr *PullRequest) { pr.Number = 8 }), true},
		"another head":                  {made(nil), made(func(pr *PullRequest) { pr.Head = "i" }), true},
		"other commits":                 {made(nil), made(func(pr *PullRequest) { pr.Commits = nil }), true},
		"another author":                {made(nil), made(func(pr *PullRequest) { pr.Author = dba }), true},
		"the author's account is gone":  {made(nil), made(func(pr *PullRequest) { pr.Author = User{} }), false},
		"a pusher more":                 {made(nil), made(func(pr *PullRequest) { pr.Pushers = []User{other, dba} }), false},
		"a pusher less":                 {made(func(pr *PullRequest) { pr.Pushers = []User{other, dba} }), made(nil), true},
		"approved since":                {made(review()), made(nil), false},
		"dismissed since":               {made(nil), made(review(dismissed)), false},
		"no longer dismissed":           {made(review(dismissed)), made(nil), true},
		"approved anew after dismissal": {made(review(dismissed)), made(review(dismissed, again)), false},
		"objected since":                {made(nil), made(review(approved, objection)), false},
		"the objection is gone":         {made(review(approved, objection)), made(nil), true},
		"approved anew":                 {made(review(approved, objection)), made(review(approved, objection, again)), false},
		"the review is gone":            {made(nil), made(review()), false},
		"approved after an objection without a time": {
			made(review(Review{User: dba, State: ChangesRequested})), made(review(again)), false},
	}
	for name, test := range tests {
		if err := Contradicts(test.earlier, test.now); (err != nil) != test.want || err != nil && !errors.Is(err, ErrUnknown) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSame(t *testing.T) {
	t.Parallel()
	tests := []struct {
		a, b User
		want bool
	}{
		{User{Login: "dba-1", ID: 1}, User{Login: "DBA-1", ID: 1}, true},
		{User{Login: "dba-1", ID: 1}, User{Login: "renamed", ID: 1}, true},
		{User{Login: "dba-1", ID: 1}, User{Login: "dba-1", ID: 2}, false}, // the name was given to another account
		{User{Login: "dba-1"}, User{Login: "DBA-1", ID: 2}, true},
		{User{}, User{}, false},
		{User{ID: 1}, User{ID: 1}, false},
	}
	for _, test := range tests {
		if test.a.Same(test.b) != test.want {
			t.Errorf("%+v and %+v: want %t", test.a, test.b, test.want)
		}
	}
}

func TestPushersOf(t *testing.T) {
	t.Parallel()
	a, b, c := User{Login: "developer-1"}, User{Login: "developer-2"}, User{Login: "developer-3"}
	const none = "0000000000000000000000000000000000000000"
	tests := map[string]struct {
		pushes []push
		want   []string
		known  bool
	}{
		"created":               {[]push{{none, "head", a}}, []string{"developer-1"}, true},
		"created at the base":   {[]push{{"one", "head", a}, {"base", "one", b}}, []string{"developer-1", "developer-2"}, true},
		"nothing":               {nil, nil, false},
		"begins in the middle":  {[]push{{"one", "head", a}}, []string{"developer-1"}, false},
		"somebody unknown":      {[]push{{"one", "head", User{}}, {none, "one", a}}, []string{"developer-1"}, false},
		"pushed back and forth": {[]push{{"two", "head", a}, {"head", "two", b}, {"base", "head", c}}, []string{"developer-1", "developer-2", "developer-3"}, true},
		"pushed on after":       {[]push{{"head", "later", c}, {"base", "head", a}}, []string{"developer-1"}, true},
	}
	for name, test := range tests {
		users, known := pushersOf("head", []Commit{{SHA: "one", parents: []string{"base"}}, {SHA: "head", parents: []string{"one"}}}, test.pushes)
		if got := logins(users); !slices.Equal(got, test.want) || known != test.known {
			t.Errorf("%s: %v, %t, want %v, %t", name, got, known, test.want, test.known)
		}
	}
}

// commitLine returns a first-parent line, newest first; names ending in ! are merges.
func commitLine(names ...string) []Commit {
	var list []Commit
	for i, name := range names {
		c := Commit{SHA: name, author: "D", email: "d@example.com", message: name, parents: []string{"below " + name}}
		if i+1 < len(names) {
			c.parents[0] = names[i+1]
		}
		if name[len(name)-1] == '!' {
			c.parents = append(c.parents, "beside "+name)
		}
		list = append(list, c)
	}
	return list
}

// rewritten are commits with the same content under other IDs, oldest first.
func rewritten(names ...string) []Commit {
	list := commitLine(names...)
	for i := range list {
		list[i].SHA = "was-" + list[i].SHA
	}
	return list
}

func TestRebasedInto(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		path    []Commit // down to the commit
		ends    string   // the commit with which the pull request ended
		commits []Commit
		want    bool
	}{
		"middle":                       {commitLine("later", "three", "two"), "three", rewritten("one", "two", "three"), true},
		"first":                        {commitLine("three", "two", "one"), "three", rewritten("one", "two", "three"), true},
		"below":                        {commitLine("three", "two", "one", "direct"), "three", rewritten("one", "two", "three"), false},
		"below a squash":               {commitLine("squash", "direct"), "squash", rewritten("one", "two"), false},
		"a squash that looks like one": {commitLine("two", "direct"), "two", rewritten("one", "two"), false},
		"the rebase dropped one":       {commitLine("three", "one"), "three", rewritten("one", "two", "three"), true},
		"the branch had a merge":       {commitLine("three", "one"), "three", rewritten("one", "main!", "three"), true},
		"below a merge":                {commitLine("merge!", "one"), "merge!", rewritten("one"), false},
		"beyond a merge":               {commitLine("two", "merge!", "one"), "two", rewritten("one", "two"), false},
		"fast-forward":                 {commitLine("two", "one"), "two", []Commit{{SHA: "one"}, {SHA: "two"}}, true},
		"nothing above":                {commitLine("one"), "two", rewritten("one", "two"), false},
	}
	for name, test := range tests {
		pr, err := rebasedInto(Limits{}.withDefaults(), test.path, func(newer string) (*PullRequest, error) {
			if newer == test.ends {
				return &PullRequest{Commits: test.commits}, nil
			}
			return nil, nil
		})
		if err != nil || (pr != nil) != test.want {
			t.Errorf("%s: %+v, %v, want %t", name, pr, err, test.want)
		}
	}
	none := func(string) (*PullRequest, error) { return nil, nil }
	if pr, err := rebasedInto(Limits{Line: 2}, commitLine("d", "c", "b", "a"), none); pr != nil || !errors.Is(err, ErrUnknown) {
		t.Errorf("more commits than the limit: %+v, %v", pr, err)
	}
}

func TestLine(t *testing.T) {
	t.Parallel()
	all := commitLine("e", "d", "c", "b", "a")
	all[4].parents = nil
	pages := func(page int) ([]Commit, error) { // two a page, and a side branch between them
		from := (page - 1) * 2
		if from >= len(all) {
			return nil, nil
		}
		return append([]Commit{}, all[from:min(from+2, len(all))]...), nil
	}
	limits := Limits{Pages: 5}
	if path, err := line(limits, "b", pages); err != nil || len(path) != 4 || path[3].SHA != "b" {
		t.Errorf("got %+v, %v", path, err)
	}
	if path, err := line(limits, "x", pages); err != nil || path != nil {
		t.Errorf("a commit elsewhere: %+v, %v", path, err)
	}
	if path, err := line(Limits{Pages: 1}, "a", pages); path != nil || !errors.Is(err, ErrUnknown) {
		t.Errorf("further back than the limit: %+v, %v", path, err)
	}
}
