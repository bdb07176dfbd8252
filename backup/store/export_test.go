package store

// SetSizes lets tests see several parts and pages without much data: S3 takes no parts below 5 MiB but the last.
func (s *S3) SetSizes(part int, page int32) { s.firstPart, s.page = part, &page }
