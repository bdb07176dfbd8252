package main

import (
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/purser-gitops/purser/sources/calendar"
	"github.com/purser-gitops/purser/sources/declaration"
)

const calendarHelp = `Show whether the calendars of an estate let releases go out, why, and what comes next.
It reads a clone and asks no agent.

  purser calendar                                all calendars and classes, now
  purser calendar retail --class high --next 10  one of each, with the next ten changes
  purser calendar retail --at 2026-11-27T12:00:00Z

Times are shown in the calendar's time zone and in UTC. A class that asks for time to be
left before the calendar closes (calendar.minimumRemaining) is held that much earlier; the
reason says so.

Exit codes: 0 it was answered, open or closed; 1 the estate could not be read, or there is
no such calendar or class; 2 the command line is wrong.`

// mostChanges bounds --next.
const mostChanges = 1000

func newCalendarCommand() *cobra.Command {
	var e estate
	var out output
	var ref, class string
	var at instant
	var next int
	cmd := &cobra.Command{
		Use:   "calendar [NAME]",
		Short: "Show when releases may go out",
		Long:  calendarHelp,
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if next < 0 || next > mostChanges {
				return exit{usageExit, fmt.Errorf("--next: want 0 to %d", mostChanges)}
			}
			s, err := e.at(ref)
			if err != nil {
				return err
			}
			names, classes := slices.Sorted(maps.Keys(s.set.Calendars)), slices.Sorted(maps.Keys(s.set.Classes))
			if len(args) == 1 {
				if names, err = only("calendar", args[0], names); err != nil {
					return err
				}
			}
			if class != "" {
				if classes, err = only("class", class, classes); err != nil {
					return err
				}
			}
			answers := []calendarAnswer{}
			for _, name := range names {
				one, err := askCalendar(s.set, name, classes, at.or(time.Now()), next)
				if err != nil {
					return err
				}
				answers = append(answers, one...)
			}
			return out.write(cmd.OutOrStdout(), answers, func(w io.Writer) error { return printCalendars(w, answers) })
		},
	}
	e.flags(cmd)
	out.flag(cmd)
	cmd.Flags().StringVar(&ref, "ref", "", "commit to read (default: the working directory)")
	cmd.Flags().Var(&at, "at", "the time that is asked about, RFC 3339 (default: now)")
	cmd.Flags().IntVar(&next, "next", 3, "how many openings and closings to tell")
	cmd.Flags().StringVar(&class, "class", "", "only for this class (default: all that are declared)")
	return cmd
}

// only gives the one name that was asked for.
func only(what, name string, names []string) ([]string, error) {
	if slices.Contains(names, name) {
		return []string{name}, nil
	}
	return nil, fmt.Errorf("no %s %q; there are: %s", what, name, dash(strings.Join(names, ", ")))
}

// calendarAnswer is what a calendar says for some classes.
type calendarAnswer struct {
	Calendar string     `json:"calendar"`
	TimeZone string     `json:"timeZone"`
	Classes  []string   `json:"classes"`
	At       time.Time  `json:"at"`
	Open     bool       `json:"open"`
	Reason   string     `json:"reason"`
	By       string     `json:"by,omitempty"`       // freeze or window that decides
	InFlight string     `json:"inFlight,omitempty"` // what a freeze does to rollouts under way
	Until    *time.Time `json:"until,omitempty"`    // when it opens or closes
	// Changes are the next openings and closings.
	Changes []calendarChange `json:"changes"`

	zone *time.Location
}

// calendarChange is one opening or closing.
type calendarChange struct {
	At     time.Time `json:"at"` // in the calendar's zone
	Open   bool      `json:"open"`
	Reason string    `json:"reason"`
}

// askCalendar asks one calendar; classes that it answers alike share an answer.
func askCalendar(set *declaration.Set, name string, classes []string, at time.Time, next int) ([]calendarAnswer, error) {
	declared := set.Calendars[name]
	zone, err := time.LoadLocation(declared.Spec.TimeZone)
	if err != nil {
		return nil, fmt.Errorf("calendar %q: %w", name, err)
	}
	var answers []calendarAnswer
	for _, class := range classes {
		a := calendarAnswer{Calendar: name, TimeZone: declared.Spec.TimeZone, At: at.In(zone), Changes: []calendarChange{}, zone: zone}
		if demand := set.Classes[class].Spec.Calendar; demand.Exempt {
			a.Open, a.Reason = true, "the class is exempt"
		} else {
			a.ask(declared.Compiled, class, at, next)
			if left := demand.MinimumRemaining; left > 0 && a.Open {
				a.Reason += fmt.Sprintf("; releases are held in the last %s before it closes", left)
			}
		}
		alike := slices.IndexFunc(answers, func(b calendarAnswer) bool { b.Classes = nil; return reflect.DeepEqual(a, b) })
		if alike < 0 {
			answers, alike = append(answers, a), len(answers)
		}
		answers[alike].Classes = append(answers[alike].Classes, class)
	}
	return answers, nil
}

// ask fills in what a calendar says for one class.
func (a *calendarAnswer) ask(c *calendar.Calendar, class string, at time.Time, next int) {
	now := c.At(class, at)
	a.Open, a.Reason, a.By, a.InFlight = now.Open, now.Reason, now.By, now.InFlight
	change := turn(now)
	if change != nil {
		until := change.In(a.zone)
		a.Until = &until
	}
	for ; change != nil && len(a.Changes) < next; change = turn(now) {
		now = c.At(class, *change)
		a.Changes = append(a.Changes, calendarChange{At: change.In(a.zone), Open: now.Open, Reason: now.Reason})
	}
}

// turn is when an open calendar closes, or a closed one opens; nil when that is not known.
func turn(a calendar.Answer) *time.Time {
	if a.Open {
		return a.NextClose
	}
	return a.NextOpen
}

func printCalendars(w io.Writer, answers []calendarAnswer) error {
	fmt.Fprintln(w, "CALENDAR\tCLASSES\tFROM\tUTC\tSTATE\tREASON")
	row := func(a calendarAnswer, at time.Time, open bool, reason string) {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", a.Calendar, strings.Join(a.Classes, ","),
			at.In(a.zone).Format("Mon 2006-01-02 15:04 MST"), at.UTC().Format(time.RFC3339), openOrClosed(open), plain(reason))
	}
	for _, a := range answers {
		row(a, a.At, a.Open, a.Reason)
		for _, change := range a.Changes {
			row(a, change.At, change.Open, change.Reason)
		}
	}
	return nil
}

func openOrClosed(open bool) string {
	if open {
		return "open"
	}
	return "closed"
}

// instant is a flag with a time.
type instant struct{ time.Time }

func (i *instant) Type() string { return "time" }

func (i *instant) String() string {
	if i.IsZero() {
		return ""
	}
	return i.Format(time.RFC3339)
}

func (i *instant) Set(text string) (err error) {
	if i.Time, err = time.Parse(time.RFC3339, text); err != nil {
		return fmt.Errorf("want a time like 2026-11-27T12:00:00Z")
	}
	return nil
}

// or is the time that was given, or another.
func (i *instant) or(other time.Time) time.Time {
	if i.IsZero() {
		return other
	}
	return i.Time
}
