// Package calendar answers whether a release may go out now: freezes and release windows in local time, with recurrence
// (RFC 5545), right across changes of the clocks. Everything is a pure function of the declared calendar and a time.
//
// # Words
//
// A freeze forbids releases, but for the classes that it exempts. A release window allows them; it is for the classes
// that it names, or for all when it names none. A class that has windows may release only while one of them is open; a
// class that has none, always. A freeze wins over a window.
//
// An occurrence is one time span of a freeze or window: from its start, inclusive, to its end, exclusive. An edge is a
// time at which an occurrence begins or ends. Between two edges an [Answer] does not change.
//
// # Local time
//
// Start and end are wall time: what a clock in the calendar's time zone shows. A rule repeats the start in wall time,
// and every occurrence ends as much wall time later as the first. So a freeze from Saturday 00:00 to Monday 00:00 ends
// on Monday 00:00 also when the clocks change on Sunday and 47 or 49 hours have passed.
//
// Where the clocks change, a wall time may not exist, or exist twice:
//
//   - A wall time that the clocks skip means the instant at which they skip it. What lies wholly within skipped time
//     does not occur.
//   - A wall time that the clocks show twice means, for a freeze, the earlier instant when it is the start and the later
//     one when it is the end: doubt never makes a freeze shorter.
//   - For a window it means the later instant when it is the start and the earlier one when it is the end: doubt never
//     makes a window longer. A window that lies wholly within repeated time opens once, the first time.
//
// Zones come from the machine's time zone database where there is one, so that a changed law needs no new program, and
// else from the copy of it in the program (time/tzdata, which this package imports).
//
// # Rules
//
// A rule is the value of an RRULE: FREQ (DAILY, WEEKLY, MONTHLY or YEARLY), INTERVAL, COUNT or UNTIL, WKST, BYMONTH,
// BYMONTHDAY, BYYEARDAY, BYWEEKNO, BYDAY and BYSETPOS. The time of day is that of the start, and the start is the first
// occurrence: a rule that does not produce it is refused, because RFC 5545 leaves open what it would mean. So is what
// readers of rules are known to understand differently, and a rule whose occurrences overlap.
package calendar
