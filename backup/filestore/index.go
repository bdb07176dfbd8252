package filestore

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// ErrIndex says that a stream of attachments is not one that this package wrote.
var ErrIndex = errors.New("the stream of attachments is damaged")

const (
	indexHead = "purser-attachments 1\n"
	maxLine   = 1024 // bytes
	noPack    = "-"
)

// Stream makes a stream of attachments of the lines that [CopyOptions.Stored] was called with, in that order. By it the next
// backup knows what was stored by one that was broken off.
func Stream(lines io.Reader, contents int64) io.Reader {
	return io.MultiReader(strings.NewReader(indexHead), lines, strings.NewReader(indexEnd(contents)))
}

func indexEnd(contents int64) string { return fmt.Sprintf("end\t%d\n", contents) }

// An indexWriter writes a stream of attachments; finish ends it.
type indexWriter struct {
	w        *bufio.Writer
	line     []byte
	contents int64
}

func newIndexWriter(w io.Writer) *indexWriter {
	x := &indexWriter{w: bufio.NewWriterSize(w, 64<<10)}
	_, _ = x.w.WriteString(indexHead) // the error stays until Flush
	return x
}

func (x *indexWriter) write(c content) error {
	line := append(x.line[:0], c.store...)
	line = append(append(line, '\t'), c.sha1...)
	line = strconv.AppendInt(append(line, '\t'), c.size, 10)
	pack := c.pack
	if pack == "" {
		pack = noPack
	}
	line = append(append(line, '\t'), pack...)
	line = strconv.AppendInt(append(line, '\t'), c.rows, 10)
	line = strconv.AppendInt(append(line, '\t'), c.id, 10)
	x.line = append(line, '\n')
	x.contents++
	_, err := x.w.Write(x.line)
	return err
}

func (x *indexWriter) finish() error {
	_, _ = x.w.WriteString(indexEnd(x.contents))
	return x.w.Flush()
}

// An indexReader reads a stream of attachments.
type indexReader struct {
	r        *bufio.Reader
	contents int64
	last     content
}

func newIndexReader(r io.Reader) (*indexReader, error) {
	x := &indexReader{r: bufio.NewReaderSize(r, 64<<10)}
	line, err := x.line()
	if err != nil {
		return nil, err
	}
	if line != strings.TrimSuffix(indexHead, "\n") {
		return nil, fmt.Errorf("read attachments: %w: it begins with %.40q", ErrIndex, line)
	}
	return x, nil
}

// line returns the next line, which must be there.
func (x *indexReader) line() (string, error) {
	line, err := x.r.ReadSlice('\n')
	switch {
	case err == io.EOF:
		return "", fmt.Errorf("read attachments: %w: it ends after %d contents", ErrIndex, x.contents)
	case errors.Is(err, bufio.ErrBufferFull) || err == nil && len(line) > maxLine:
		return "", fmt.Errorf("read attachments: %w: a line has more than %d bytes", ErrIndex, maxLine)
	case err != nil:
		return "", fmt.Errorf("read attachments: %w", err)
	}
	return string(line[:len(line)-1]), nil
}

// next returns the next content. It returns io.EOF after the last one, when the end has been checked and the underlying
// reader has come to its end, too.
func (x *indexReader) next() (content, error) {
	line, err := x.line()
	if err != nil {
		return content{}, err
	}
	if count, ok := strings.CutPrefix(line, "end\t"); ok && count == strconv.FormatInt(x.contents, 10) {
		switch _, err := x.r.ReadByte(); {
		case err == io.EOF:
			return content{}, io.EOF
		case err != nil:
			return content{}, fmt.Errorf("read attachments: %w", err)
		}
		return content{}, fmt.Errorf("read attachments: %w: something follows its end", ErrIndex)
	}
	c, ok := parseLine(line)
	if name, _, _ := strings.Cut(line, "\t"); !ok && !localName(name) {
		return content{}, fmt.Errorf("read attachments: %w: line %d names %.100q, which is no path inside the filestore: nothing is restored there", ErrIndex, x.contents+2, name)
	}
	if !ok {
		return content{}, fmt.Errorf("read attachments: %w: line %d is %.100q", ErrIndex, x.contents+2, line)
	}
	if x.contents > 0 && c.compare(x.last) <= 0 {
		return content{}, fmt.Errorf("read attachments: %w: line %d is out of order", ErrIndex, x.contents+2)
	}
	x.contents++
	x.last = c
	return c, nil
}

func parseLine(line string) (content, bool) {
	var field [6]string
	for i := range field {
		var more bool
		if field[i], line, more = strings.Cut(line, "\t"); more != (i < len(field)-1) {
			return content{}, false
		}
	}
	c := content{store: field[0], sha1: field[1], pack: field[3]}
	if c.pack == noPack {
		c.pack = ""
	} else if !packName(c.pack) {
		return content{}, false
	}
	var err [3]error
	c.size, err[0] = strconv.ParseInt(field[2], 10, 64)
	c.rows, err[1] = strconv.ParseInt(field[4], 10, 64)
	c.id, err[2] = strconv.ParseInt(field[5], 10, 64)
	return c, err == [3]error{} && localName(c.store) && isSHA1(c.sha1)
}

// packName says whether a pack can have that name: printable, and a field of a line.
func packName(name string) bool {
	if name == "" || name == noPack || len(name) > maxName {
		return false
	}
	for _, b := range []byte(name) {
		if b <= ' ' || b > '~' {
			return false
		}
	}
	return true
}
