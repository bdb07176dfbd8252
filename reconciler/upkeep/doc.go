// Package upkeep keeps the backups of environments: what the records say of them ([Backups]), what is due ([Next]), and how it
// is done ([Worker]).
//
// Two lanes of work go on beside each other for an environment, each with one job at a time: in the one backups are made, in
// the other they are looked at, copied to further stores, rehearsed and, once nothing needs them, deleted. So a long drill
// delays no backup, and nothing is deleted while it is verified, copied or rehearsed. What is read besides, for a backup before a
// release or a restore by hand, is protected by what retention keeps: the newest ones, and those whose locks have not ended.
//
// What is due follows from the declared policy, the records and the time alone. The worker returns predicates of records, and
// records nothing itself; only what was recorded happened. A deletion is recorded before it begins, since what is half deleted
// must not be taken for a damaged backup.
package upkeep
