package declaration

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/purser-gitops/purser/sources/calendar"
)

// calendars judges each calendar.
func (c *check) calendars() {
	for _, name := range slices.Sorted(maps.Keys(c.set.Calendars)) {
		s, doc := c.set.Calendars[name].Spec, c.doc["Calendar "+name]
		c.compile(c.set.Calendars[name], doc)
		for i, f := range s.Freezes {
			for j, class := range f.Exempt {
				c.class(doc.mark(fmt.Sprintf("spec.freezes[%d].exempt[%d]", i, j)), class)
			}
		}
		for i, w := range s.Windows {
			for j, class := range w.Classes {
				at := doc.mark(fmt.Sprintf("spec.windows[%d].classes[%d]", i, j))
				c.class(at, class)
				if k := c.set.Classes[class]; k != nil && k.Spec.Calendar.Exempt {
					c.g.errs.add(at, fmt.Sprintf("window %q is for class %q, which is exempt from calendars", w.Name, class), "no window holds for this class", "remove one of the two")
				}
			}
		}
	}
}

// compile makes the calendar ready to be asked, or says what is wrong with its times.
func (c *check) compile(k *Calendar, doc *document) {
	if doc.broken {
		return
	}
	var problems calendar.Errors
	compiled, err := k.Spec.Compile()
	if err == nil {
		k.Compiled = compiled
		return
	}
	if !errors.As(err, &problems) {
		c.g.errs.add(doc.Position, "calendar cannot be used", err.Error(), "correct it")
	}
	for _, p := range problems {
		c.g.errs.add(doc.mark(strings.TrimSuffix("spec."+p.Path, ".")), p.What, p.Why, p.Remedy)
	}
}

// searchYears is how far after the first edge of a calendar a long enough opening is looked for.
const searchYears = 10

// remaining refuses a class that asks for more time than any opening of a calendar leaves: nobody could ever release.
func (c *check) remaining(class *ReleaseClass, k *Calendar) {
	need := class.Spec.Calendar.MinimumRemaining
	doc := c.doc["ReleaseClass "+class.Meta.Name]
	if need == 0 || class.Spec.Calendar.Exempt || k.Compiled == nil || doc == nil {
		return
	}
	at, more := k.Compiled.NextEdge(class.Meta.Name, time.Unix(0, 0))
	if !more {
		return // it is open for ever, or never; Compile refuses the latter
	}
	for last := at.AddDate(searchYears, 0, 0); more && at.Before(last); at, more = k.Compiled.NextEdge(class.Meta.Name, at) {
		a := k.Compiled.At(class.Meta.Name, at)
		if left, ends := a.Remaining(at); a.Open && (!ends || left >= need) {
			return
		}
	}
	c.g.errs.add(doc.mark("spec.calendar.minimumRemaining"), fmt.Sprintf("class %q cannot be satisfied", class.Meta.Name),
		fmt.Sprintf("calendar %q, which environments of the class have, never stays open for so long", k.Meta.Name), "ask for less, or widen a window")
}

// calendarNamed refuses the name of a calendar that there is not.
func (c *check) calendarNamed(at Position, name string) {
	if c.set.Calendars[name] == nil && c.g.complete {
		c.unknown(at, "calendar", name, slices.Sorted(maps.Keys(c.set.Calendars)))
	}
}
