package calendar

import (
	"fmt"
	"slices"
	"time"
)

// What happens to a rollout that is under way when a freeze begins.
const (
	Finish   = "finish"   // it goes on (the default)
	Pause    = "pause"    // it stands still until the freeze is over
	RollBack = "rollBack" // it goes back to what was live
)

// Spec is what is declared of a calendar. Times are wall times like 2026-11-26T06:00.
type Spec struct {
	TimeZone string // IANA name
	Freezes  []Freeze
	Windows  []Window
}

// Freeze is a time in which nothing is released.
type Freeze struct {
	Name, Reason string
	Start, End   string
	Repeat       string   // value of an RRULE; empty: once
	Exempt       []string // classes for which it does not hold
	InFlight     string   // Finish, Pause or RollBack; empty: Finish
}

// Window is a time in which its classes may release.
type Window struct {
	Name       string
	Start, End string
	Repeat     string   // value of an RRULE; empty: once
	Classes    []string // classes that it is for; empty: all
}

// maxEntries limits the work that one calendar may cause.
const maxEntries = 100

// Compile checks a calendar and makes it ready to be asked. Its error is [Errors]: everything that is wrong at once.
func Compile(spec Spec) (*Calendar, error) {
	var errs Errors
	zone, wrong := loadZone(spec.TimeZone)
	if wrong != nil {
		errs.add("timeZone", fmt.Sprintf("time zone is %q", spec.TimeZone), wrong.why, wrong.remedy)
		zone = time.UTC // to find what else is wrong
	}
	switch n := len(spec.Freezes) + len(spec.Windows); {
	case n == 0:
		errs.add("", "empty calendar", "it has neither freezes nor windows", "add one, or remove the calendar")
	case n > maxEntries:
		errs.add("", fmt.Sprintf("%d freezes and windows", n), fmt.Sprintf("a calendar has at most %d", maxEntries), "split it, or use rules that repeat")
		return nil, errs
	}
	c := &Calendar{zone: zone, judges: map[string]*judge{}}
	names := map[string]string{}
	for i, f := range spec.Freezes {
		path := fmt.Sprintf("freezes[%d]", i)
		checkName(path, f.Name, names, &errs)
		checkClasses(path+".exempt", f.Exempt, &errs)
		if f.InFlight == "" {
			f.InFlight = Finish
		}
		if !slices.Contains([]string{Finish, Pause, RollBack}, f.InFlight) {
			errs.add(path+".inFlight", fmt.Sprintf("inFlight is %q", f.InFlight), "it must be one of finish, pause, rollBack", "correct it")
		}
		if o := compileSpan(path, zone, f.Start, f.End, f.Repeat, resolveFreeze, &errs); o != nil {
			c.freezes = append(c.freezes, &freeze{Freeze: f, occurrences: o})
		}
	}
	for i, w := range spec.Windows {
		path := fmt.Sprintf("windows[%d]", i)
		checkName(path, w.Name, names, &errs)
		checkClasses(path+".classes", w.Classes, &errs)
		if o := compileSpan(path, zone, w.Start, w.End, w.Repeat, resolveWindow, &errs); o != nil {
			c.windows = append(c.windows, &window{Window: w, occurrences: o})
		}
	}
	if len(errs) == 0 {
		c.addJudges()
		c.checkOpens(spec, &errs)
	}
	if len(errs) > 0 {
		return nil, errs
	}
	return c, nil
}

func checkName(path, name string, names map[string]string, errs *Errors) {
	other, taken := names[name]
	switch {
	case name == "":
		errs.add(path+".name", "name is missing", "answers name the freeze or window that they come from", "give it one")
	case taken:
		errs.add(path+".name", fmt.Sprintf("name is %q", name), other+" has the same name", "rename one of them")
	default:
		names[name] = path
	}
}

func checkClasses(path string, classes []string, errs *Errors) {
	for i, class := range classes {
		at := fmt.Sprintf("%s[%d]", path, i)
		if class == "" {
			errs.add(at, "class is empty", "it names no class", "name one, or remove it")
		} else if slices.Index(classes, class) < i {
			errs.add(at, fmt.Sprintf("class %q", class), "it is listed twice", "remove it")
		}
	}
}

// compileSpan checks start, end and rule. It gives nil when something is wrong.
func compileSpan(path string, zone *time.Location, start, end, repeat string, resolve resolver, errs *Errors) *occurrences {
	from, wrong := parseWall(start)
	if wrong != nil {
		errs.add(path+".start", fmt.Sprintf("start is %q", start), wrong.why, wrong.remedy)
	}
	to, wrongEnd := parseWall(end)
	if wrongEnd != nil {
		errs.add(path+".end", fmt.Sprintf("end is %q", end), wrongEnd.why, wrongEnd.remedy)
	}
	if wrong != nil || wrongEnd != nil {
		return nil
	}
	if !to.After(from) {
		errs.add(path+".end", fmt.Sprintf("end is %q", end), fmt.Sprintf("it is not after the start, %q", start), "correct one of them")
		return nil
	}
	rule := once(from)
	if repeat != "" {
		if rule, wrong = parseRule(repeat, from, zone); wrong == nil {
			wrong = checkOccurrences(rule, from, to.Sub(from))
		}
		if wrong != nil {
			errs.add(path+".repeat", fmt.Sprintf("repeat is %q", repeat), wrong.why, wrong.remedy)
			return nil
		}
	}
	o := &occurrences{zone: zone, resolve: resolve, next: rule(), length: to.Sub(from)}
	if o.until(never); len(o.spans) == 0 {
		errs.add(path, "it never occurs", fmt.Sprintf("clocks in %s skip this time whenever it would", zone), "move its start or end")
		return nil
	}
	return o
}

// overlapYears is how long the occurrences of a rule are compared with each other: weekdays and leap years repeat after
// 28 years, and 12 more if one of the leap years is left out at the turn of a century.
const overlapYears = 40

// checkOccurrences refuses a rule that does not begin at the start, or whose occurrences overlap.
func checkOccurrences(rule func() next, start time.Time, length time.Duration) *problem {
	following := rule()
	first, ok := following()
	if !ok {
		return &problem{"it never occurs", "correct the rule: no day is as it says"}
	}
	if !first.Equal(start) {
		return &problem{"the start is not an occurrence of the rule", fmt.Sprintf("correct the rule, or start at its first occurrence, %q", first.Format(wallLayout))}
	}
	if length <= 24*time.Hour {
		return nil // occurrences are whole days apart
	}
	for last := start.AddDate(overlapYears, 0, 0); first.Before(last); {
		second, ok := following()
		if !ok {
			return nil
		}
		if second.Before(first.Add(length)) {
			return &problem{fmt.Sprintf("its occurrences of %q and %q overlap", first.Format(wallLayout), second.Format(wallLayout)),
				"let it end before it starts again, or repeat less often"}
		}
		first = second
	}
	return nil
}
