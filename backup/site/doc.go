// Package site reaches what an agent's configuration names for backups: stores, databases with their filestores, and keys.
//
// Nothing is connected to before it is used, and a folder or file that is missing is a matter of the store, environment or
// key that needs it and of nobody else: it is looked for again the next time. Credentials, passwords and keys are files that
// are read again when they change, and nothing that is in them gets into an error.
package site
