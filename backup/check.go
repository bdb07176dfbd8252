package backup

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Bounds of what a manifest holds.
const (
	maxPacks        = 50_000
	maxFingerprints = 10_000
	maxText         = 1000 // bytes
	maxList         = 100
)

var (
	sumForm     = regexp.MustCompile(`^[0-9a-f]{64}$`)
	commitForm  = regexp.MustCompile(`^([0-9a-f]{40}|[0-9a-f]{64})$`)
	releaseForm = regexp.MustCompile(`^(sha256:[0-9a-f]{64})?$`)
)

// check refuses what is not the manifest of that backup: every object has to lie where environment and ID say.
func (m *Manifest) check(environment string, id ID) error {
	if err := id.check(environment); err != nil {
		return err
	}
	switch {
	case m.Format != Format:
		return fmt.Errorf("its format is %d, not %d", m.Format, Format)
	case m.Environment != environment:
		return fmt.Errorf("it is of environment %.80q, not of %q", m.Environment, environment)
	case m.ID != id:
		return fmt.Errorf("it is of backup %.100q, not of %s", string(m.ID), id)
	case len(m.Fingerprints) > maxFingerprints:
		return fmt.Errorf("it has %d fingerprints, and may have %d", len(m.Fingerprints), maxFingerprints)
	}
	if err := m.checkSaid(); err != nil {
		return err
	}
	if err := m.Times.check(id); err != nil {
		return err
	}
	for _, s := range m.named() {
		if want := Key(environment, id, s.name); s.entry.Key != want {
			return fmt.Errorf("object %.200q is not %s", s.entry.Key, want)
		}
		if err := m.checkEntry(*s.entry); err != nil {
			return err
		}
	}
	return m.checkPacks()
}

// checkSaid is about what whoever makes a backup says of it beforehand.
func (m *Manifest) checkSaid() error {
	switch {
	case m.Policy == "" || m.Store == "" || len(m.Policy) > maxText || len(m.Store) > maxText || len(m.Reason) > maxText:
		return errors.New("policy, store or reason are missing or too long")
	case !commitForm.MatchString(m.Configuration.Commit) || !releaseForm.MatchString(m.Configuration.Release):
		return errors.New("commit or release are none")
	case len(m.Recipients) == 0 || len(m.Recipients) > maxList || len(m.Tools) > maxList:
		return errors.New("recipients are missing, or there are too many of them or of tools")
	}
	return nil
}

func (t Times) check(id ID) error {
	switch {
	case !t.Began.Truncate(time.Second).Equal(id.Began()):
		return fmt.Errorf("it began %s, which is not the time in its ID", t.Began.Format(time.RFC3339))
	case t.Snapshot.Before(t.Began) || t.Finished.Before(t.Snapshot):
		return errors.New("its times are not in order: it begins, takes a snapshot, and is finished")
	}
	return nil
}

// checkPacks refuses packs that are not exactly those that the attachments are in.
func (m *Manifest) checkPacks() error {
	if len(m.Packs) > maxPacks {
		return fmt.Errorf("it has %d packs, and may have %d", len(m.Packs), maxPacks)
	}
	names := make([]string, len(m.Packs))
	for i, p := range m.Packs {
		if names[i] = packName(m.Environment, p.Key); names[i] == "" {
			return fmt.Errorf("object %.200q is no pack of environment %q", p.Key, m.Environment)
		}
		if i > 0 && names[i] <= names[i-1] {
			return errors.New("its packs are not sorted, or one is there twice")
		}
		if err := m.checkEntry(p); err != nil {
			return err
		}
	}
	if !slices.Equal(names, m.Filestore.Index.Packs) {
		return errors.New("its packs are not those that the attachments are in")
	}
	return nil
}

// checkEntry refuses an entry that does not bind its object.
func (m *Manifest) checkEntry(e Entry) error {
	// All objects of a backup are locked, or none.
	locked := !m.Streams.Database.LockedUntil.IsZero()
	switch {
	case e.Version == "" || len(e.Version) > maxText || strings.ContainsFunc(e.Version, func(r rune) bool { return r <= ' ' || r > '~' }):
		return fmt.Errorf("object %s has no version", e.Key)
	case !sumForm.MatchString(e.SHA256) || !sumForm.MatchString(e.PlainSHA256) || len(e.Parts) > maxText:
		return fmt.Errorf("object %s has no SHA-256", e.Key)
	case e.Size <= 0 || e.PlainBytes < 0:
		return fmt.Errorf("object %s has no size", e.Key)
	case e.ContentType == "" || len(e.ContentType) > maxText:
		return fmt.Errorf("object %s has no content type", e.Key)
	case locked == e.LockedUntil.IsZero():
		return errors.New("some of its objects are locked and some are not")
	case locked && e.LockedUntil.Before(m.Times.Finished):
		return fmt.Errorf("the lock of object %s ended %s, before the backup was finished", e.Key, e.LockedUntil.Format(time.RFC3339))
	}
	return nil
}
