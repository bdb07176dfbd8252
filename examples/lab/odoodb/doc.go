// Package odoodb makes what a backup of Odoo has to do with, without Odoo: a database of Odoo's shape with a filestore,
// shops that go on selling in it, and Odoo's collection of attachments that nobody needs any more.
//
// # The filestore
//
// An attachment's content is the file ab/ab12… of the filestore's folder, named by its SHA-1, which is the row's
// store_fname; equal contents share a file. Odoo writes the file first, in place, then the row, and marks the file in
// checklist/ab/ab12…: whoever deletes a row marks it as well. The collection deletes what is marked and in no row.
//
// So a copy of the filestore that begins after the snapshot of the database has all files of that snapshot, unless a
// collection ran in between.
package odoodb
