// Package health judges whether what an environment runs is well: the status of its objects and the answers of its HTTP
// checks, in one report.
//
// # Statuses, from best to worst
//
//	Healthy      as declared and working; a workload scaled to zero is healthy
//	Suspended    told to stand still: a suspended Job or CronJob, a paused Deployment
//	Progressing  on the way, or short of replicas for less than a minute
//	Missing      does not exist
//	Degraded     tried and failed, or short of replicas for longer
//	Unknown      could not be found out
//
// # Causes
//
// Whoever is called first should be the one who can help:
//
//   - platform: nodes, scheduling, quotas, volumes, definitions of kinds, namespaces that are going away.
//   - external: what others run. External secret stores, certificate authorities; a registry that does not answer.
//   - application: everything else. Pods that crash or never become ready, failed Jobs, and images that the registry
//     does not have or does not give out: then it answered, and the reference or the credentials are wrong.
//
// An HTTP check has the cause it was declared with. A report has the cause of what is worst in it; between several, the
// platform comes before what others run, and that before the application, because faults spread in this direction.
//
// Objects are judged by their own conditions alone: pods are not looked up. That a Deployment's pods crash shows as
// replicas that never become ready.
package health
