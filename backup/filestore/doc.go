// Package filestore copies the contents of attachments into packs, restores them, and says what is missing.
//
// # Names
//
// Odoo keeps an attachment's content in a file of the database's filestore: the row's store_fname is the name, as in
// ab/ab12…, checksum the SHA-1, file_size the length. Equal contents share a file, so a content here is a name, a checksum
// and a length, whatever the number of rows. Rows without a name have their content in the database, or a URL; names with
// a scheme, such as s3://bucket/ab12…, are kept elsewhere by an addon and are not in the backup, which is reported.
// https://github.com/odoo/odoo/blob/17.0/odoo/addons/base/models/ir_attachment.py
//
// # Packs
//
// A pack is a tar archive of contents under their names, each of which had its checksum when it was read. A pack is never
// changed. Whoever stores packs names them, and may seal them: to this package they are streams.
//
// # The stream of attachments
//
// Which pack holds which content is said by a stream that belongs to one backup. Its lines are sorted by their first three
// fields, bytewise; fields are separated by tabs:
//
//	purser-attachments 1
//	ab/ab12…	ab12…	4711	PACK	ROWS	ID
//	end	CONTENTS
//
// That is: name, SHA-1, length in bytes (-1 if the row does not say), the pack's name (- if the content is in none, because
// its file was missing or wrong), the number of rows, and the id of the first of them. With all packs unpacked in a folder,
//
//	awk -F '\t' 'NF == 6 && $4 != "-" {print $2 "  " $1}' | sha1sum -c
//
// checks that folder.
//
// # Generations
//
// The next backup reads the stream of the one before, and what backups that were broken off had stored already, and copies
// what no pack holds yet: no file is looked at that has been copied before. Without a previous stream all is copied, which
// begins a new generation of packs.
package filestore
