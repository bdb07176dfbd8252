package declaration

import "github.com/purser-gitops/purser/sources/calendar"

// Calendar says when releases may be approved. It never stops repair or the way back.
type Calendar struct {
	Meta     Meta
	Spec     CalendarSpec
	Position Position
	Compiled *calendar.Calendar `json:"-"` // Spec, ready to be asked; shared by all who ask
}

// CalendarSpec is the content of a [Calendar].
type CalendarSpec struct {
	// IANA name of the time zone in which all its times are, such as Europe/Berlin.
	TimeZone string `json:"timeZone" jsonschema:"required"`
	// Times in which no release is approved. A freeze beats a window.
	Freezes []Freeze `json:"freezes,omitempty" jsonschema:"minItems=1"`
	// Times of which one must be open for a release of the classes that have windows.
	Windows []Window `json:"windows,omitempty" jsonschema:"minItems=1"`
}

// Freeze is a time in which no release is approved.
type Freeze struct {
	// Name of the freeze, unique in its calendar.
	Name string `json:"name" jsonschema:"required,format=name"`
	// Why, as text for the people who have to wait.
	Reason string `json:"reason,omitempty"`
	// First moment, in local time without a zone.
	Start string `json:"start" jsonschema:"required,format=local"`
	// Moment at which it is over, in local time without a zone.
	End string `json:"end" jsonschema:"required,format=local"`
	// When it comes again: a recurrence rule of RFC 5545, such as FREQ=MONTHLY;BYMONTHDAY=-1. Without it: once.
	Repeat string `json:"repeat,omitempty"`
	// Classes for which it does not hold.
	Exempt []string `json:"exempt,omitempty" jsonschema:"minItems=1,uniqueItems=true,format=name"`
	// What becomes of a rollout that is under way when it begins.
	InFlight string `json:"inFlight,omitempty" jsonschema:"enum=finish,enum=pause,enum=rollBack,default=finish"`
}

// Window is a time in which releases may be approved.
type Window struct {
	// Name of the window, unique in its calendar.
	Name string `json:"name" jsonschema:"required,format=name"`
	// First moment, in local time without a zone.
	Start string `json:"start" jsonschema:"required,format=local"`
	// Moment at which it is over, in local time without a zone.
	End string `json:"end" jsonschema:"required,format=local"`
	// When it comes again: a recurrence rule of RFC 5545, such as FREQ=WEEKLY;BYDAY=MO,TU. Without it: once.
	Repeat string `json:"repeat,omitempty"`
	// Classes that need it or another window that names them. Without it: every class.
	Classes []string `json:"classes,omitempty" jsonschema:"minItems=1,uniqueItems=true,format=name"`
}

// Compile makes the calendar ready to be asked. Its error is [calendar.Errors].
func (s CalendarSpec) Compile() (*calendar.Calendar, error) {
	spec := calendar.Spec{TimeZone: s.TimeZone}
	for _, f := range s.Freezes {
		spec.Freezes = append(spec.Freezes, calendar.Freeze(f))
	}
	for _, w := range s.Windows {
		spec.Windows = append(spec.Windows, calendar.Window(w))
	}
	return calendar.Compile(spec)
}
