package schedule

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"regexp"
	"sync"
	"time"

	"github.com/robfig/cron/v3"

	"github.com/purser-gitops/purser/sources/calendar"
)

// Spec is what is declared of a schedule.
type Spec struct {
	Cron     string // minute, hour, day of the month, month, day of the week
	TimeZone string // IANA name
	Jitter   time.Duration
	Peaks    []Peak
}

// Peak is a time of day in which nothing starts. One whose end is before its start ends on the next day.
type Peak struct {
	Days     []string // mon tue wed thu fri sat sun; empty: every day
	From, To string   // wall time like 09:30; the end may be 24:00
}

const (
	maxJitter = 12 * time.Hour
	maxPeaks  = 50
	maxSlots  = 96 // of one day: every quarter of an hour
)

// Weekdays are the names of days in a [Peak].
var Weekdays = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

// Schedule answers when to start. It is safe for concurrent use.
type Schedule struct {
	cron   *cron.SpecSchedule // read in UTC, which stands for wall time
	zone   *time.Location
	hourly bool // every hour of the day has slots
	jitter time.Duration
	peaks  []peak
	gap    func() (time.Duration, time.Time)
}

type peak struct {
	days     [7]bool
	from, to time.Duration // since midnight, in wall time; to is after from
}

// Compile checks a schedule and makes it ready to be asked. Its error is [calendar.Errors]: everything that is wrong at
// once, with the paths cron, timeZone, jitter and peakHours[i].
func Compile(spec Spec) (*Schedule, error) {
	var errs calendar.Errors
	fail := func(path, what, why, remedy string) {
		errs = append(errs, calendar.Error{Path: path, What: what, Why: why, Remedy: remedy})
	}
	s := &Schedule{jitter: spec.Jitter}
	var err error
	if s.zone, err = calendar.Zone(spec.TimeZone); err != nil {
		var wrong calendar.Error
		errors.As(err, &wrong)
		errs = append(errs, wrong)
		s.zone = time.UTC // to find what else is wrong
	}
	if spec.Jitter < 0 || spec.Jitter > maxJitter {
		fail("jitter", fmt.Sprintf("jitter is %s", spec.Jitter), fmt.Sprintf("it must be from 0s to %s", maxJitter), "choose another value")
		s.jitter = 0
	}
	if s.cron, err = parseCron(spec.Cron); err != nil {
		fail("cron", fmt.Sprintf("schedule is %q", spec.Cron), err.Error(),
			`write minute, hour, day of the month, month and day of the week, like "30 2 * * *" for every night at 02:30`)
	}
	if len(spec.Peaks) > maxPeaks {
		fail("peakHours", fmt.Sprintf("%d peak hours", len(spec.Peaks)), fmt.Sprintf("a schedule has at most %d", maxPeaks), "merge some of them")
		return nil, errs
	}
	for i, p := range spec.Peaks {
		compiled, wrong := compilePeak(p)
		if wrong != nil {
			wrong.Path = fmt.Sprintf("peakHours[%d]%s", i, wrong.Path)
			errs = append(errs, *wrong)
		}
		s.peaks = append(s.peaks, compiled)
	}
	if len(errs) == 0 && s.free(reference).IsZero() {
		fail("peakHours", "peak hours leave no time", "nothing could ever start: they cover the whole week"+s.widened(), "shorten them")
	}
	if len(errs) > 0 {
		return nil, errs
	}
	s.hourly = true
	for hour := range 24 {
		s.hourly = s.hourly && s.cron.Hour&(1<<hour) != 0
	}
	s.gap = sync.OnceValues(s.longestGap)
	return s, nil
}

// reference is where questions about a schedule as such begin: any Monday would do.
var reference = time.Date(2029, time.January, 1, 0, 0, 0, 0, time.UTC)

// widened says that the jitter counts as peak hours.
func (s *Schedule) widened() string {
	if s.jitter == 0 {
		return ""
	}
	return fmt.Sprintf(", with the jitter of %s before each", s.jitter)
}

// cronForm keeps out what the parser knows besides five fields: zones and names such as @daily.
var cronForm = regexp.MustCompile(`^[0-9A-Za-z*,/?-]+( +[0-9A-Za-z*,/?-]+){4}$`)

const maxCron = 200 // characters

func parseCron(text string) (*cron.SpecSchedule, error) {
	if len(text) > maxCron || !cronForm.MatchString(text) {
		return nil, errors.New("it must have the five fields of cron")
	}
	parsed, err := cron.NewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow).Parse(text)
	if err != nil {
		return nil, fmt.Errorf("it is not what cron understands: %w", err)
	}
	fields, ok := parsed.(*cron.SpecSchedule)
	if !ok {
		return nil, errors.New("it must have the five fields of cron")
	}
	fields.Location = time.UTC
	first := fields.Next(reference)
	if first.IsZero() {
		return nil, errors.New("there is no such day, so nothing would ever start")
	}
	slots, day := 0, first.Truncate(24*time.Hour)
	for t := fields.Next(day.Add(-1)); !t.IsZero() && t.Before(day.Add(24*time.Hour)); t = fields.Next(t) {
		slots++
	}
	if slots > maxSlots {
		return nil, fmt.Errorf("it starts %d times a day, and may do so %d times", slots, maxSlots)
	}
	return fields, nil
}

// compilePeak checks one of the peak hours.
func compilePeak(p Peak) (peak, *calendar.Error) {
	out := peak{days: [7]bool{true, true, true, true, true, true, true}}
	if len(p.Days) > 0 {
		out.days = [7]bool{}
	}
	for i, name := range p.Days {
		known := false
		for day, weekday := range Weekdays {
			if name == weekday {
				known, out.days[day] = true, true
			}
		}
		if !known {
			return out, &calendar.Error{Path: fmt.Sprintf(".days[%d]", i), What: fmt.Sprintf("day is %q", name), Why: "there is no such day of the week", Remedy: "name one of mon, tue, wed, thu, fri, sat, sun"}
		}
	}
	var ok bool
	if out.from, ok = timeOfDay(p.From); !ok || out.from == 24*time.Hour {
		return out, &calendar.Error{Path: ".from", What: fmt.Sprintf("from is %q", p.From), Why: "there is no such time of day", Remedy: `write it like "09:00"`}
	}
	if out.to, ok = timeOfDay(p.To); !ok {
		return out, &calendar.Error{Path: ".to", What: fmt.Sprintf("to is %q", p.To), Why: "there is no such time of day", Remedy: `write it like "21:00"; a day ends at "24:00"`}
	}
	if out.to == out.from || out.to-out.from == 24*time.Hour {
		return out, &calendar.Error{Path: ".to", What: "peak hours cover the whole day", Why: fmt.Sprintf("they are from %s to %s", p.From, p.To), Remedy: "leave a time in which something can start"}
	}
	if out.to < out.from {
		out.to += 24 * time.Hour
	}
	return out, nil
}

// timeOfDay reads a time like 09:30, or 24:00.
func timeOfDay(text string) (time.Duration, bool) {
	if text == "24:00" {
		return 24 * time.Hour, true
	}
	t, err := time.Parse("15:04", text)
	return time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute, err == nil && len(text) == len("15:04")
}

// Offset is how much later than others something of that name starts: less than the jitter, in whole seconds.
func (s *Schedule) Offset(name string) time.Duration {
	span := uint64(s.jitter / time.Second)
	if span == 0 {
		return 0
	}
	sum := sha256.Sum256([]byte(name))
	return time.Duration(binary.BigEndian.Uint64(sum[:8])%span) * time.Second
}
