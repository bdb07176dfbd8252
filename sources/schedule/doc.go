// Package schedule says when something that comes again is to start: five fields of cron in a time zone, kept out of peak
// hours, spread over a time, right across changes of the clocks and after a standstill. Everything is a pure function of
// the declared schedule, what ran last, and a time.
//
// # Words
//
// A slot is a time that the cron fields name. A start is when that is to begin: the slot, moved to the end of the peak
// hours if it would begin in them, plus the offset. The offset is the same at every start, from zero to less than the
// jitter, and another one for each name, so that many environments with one schedule do not start at once.
//
// Since no offset may lead into peak hours, what begins less than the jitter before them is moved as well. So the order of
// starts and the time between them are the same for all names. Several slots may become one start.
//
// # Local time
//
// Slots and peak hours are wall time: what a clock in the schedule's zone shows. A slot that the clocks skip means the
// instant at which they skip it. A slot that they show twice means the first of the two; but if every hour has slots,
// repeated hours have them both times. Peak hours are never made shorter by doubt.
//
// # Standstill
//
// However many starts passed while nothing could start, there is one start for them, at once or at the end of the peak
// hours. Starts that pass while a run is under way are left out.
package schedule
