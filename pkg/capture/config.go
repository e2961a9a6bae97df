// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package capture

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"example.io/coredump/pkg/spool"
)

// ConfigFile is the name of corepipe's configuration, beside its program.
const ConfigFile = "corepipe.json"

// ComplainedFile is the name of the file beside corepipe that has the time of its last line in the kernel's log.
const ComplainedFile = ".corepipe-complained"

// Config is what the node handler tells corepipe, in ConfigFile.
type Config struct {
	// Version is that of the node handler that wrote it.
	Version string `json:"version"`
	// Spool is the path of the spool on the host; absolute.
	Spool string `json:"spool"`

	// See Limits; sizes are in bytes.
	MaxSize       int64    `json:"maxSize"`
	CutSize       int64    `json:"cutSize"`
	SpoolBytes    int64    `json:"spoolBytes"`
	SpoolEntries  int      `json:"spoolEntries"`
	MinFreeBytes  int64    `json:"minFreeBytes"`
	MinFreeInodes int64    `json:"minFreeInodes"`
	Deadline      Duration `json:"deadline"`
	StallTimeout  Duration `json:"stallTimeout"`

	// AnswerTimeout is how long the node handler is waited for; 0: it is not asked.
	AnswerTimeout Duration `json:"answerTimeout"`
	// MaxConcurrent is how many dumps are taken at once on this node.
	MaxConcurrent int `json:"maxConcurrent"`

	// ProcFiles are the facts of the process that are taken, see Facts; others are none. EnvironValues takes what is in its environment, not
	// only the names.
	ProcFiles     []string `json:"procFiles"`
	EnvironValues bool     `json:"environValues,omitempty"`

	// Forward is the core_pattern that the host had before us, which gets the crashes that are no pod's; "" drops those.
	Forward string `json:"forward,omitempty"`
}

// DefaultConfig is what holds where the configuration says nothing. Its spool is empty: that has no default.
func DefaultConfig() Config {
	return Config{
		MaxSize:       16 << 30,
		CutSize:       64 << 20,
		SpoolBytes:    32 << 30,
		SpoolEntries:  4096,
		MinFreeBytes:  2 << 30,
		MinFreeInodes: 10_000,
		Deadline:      Duration(2 * time.Minute),
		StallTimeout:  Duration(10 * time.Second),
		AnswerTimeout: Duration(500 * time.Millisecond),
		MaxConcurrent: 16,
		ProcFiles:     slices.Clone(DefaultFacts),
	}
}

// Limits are those of the configuration.
func (c *Config) Limits() Limits {
	return Limits{
		MaxSize: c.MaxSize, CutSize: c.CutSize,
		Spool:    spool.Limits{Bytes: c.SpoolBytes, Entries: c.SpoolEntries, FreeBytes: c.MinFreeBytes, FreeInodes: c.MinFreeInodes},
		Deadline: time.Duration(c.Deadline), StallTimeout: time.Duration(c.StallTimeout),
	}
}

// MaxConfig is the largest configuration that is read, in bytes.
const MaxConfig = 64 << 10

// DecodeConfig reads a configuration. What is not said has its default, and what it does not know is ignored: while one version takes the place of another,
// up or down, and for as long as that gets stuck, the program of one runs with the configuration of the other.
func DecodeConfig(b []byte) (*Config, error) {
	c := DefaultConfig()
	d := json.NewDecoder(bytes.NewReader(b[:min(len(b), MaxConfig)]))
	err := d.Decode(&c)
	if err == nil {
		if _, end := d.Token(); end != io.EOF {
			err = errors.New("there is more behind it")
		}
	}
	if err == nil {
		err = c.Validate()
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ConfigFile, err)
	}
	return &c, nil
}

// Encode is the inverse of DecodeConfig.
func (c *Config) Encode() ([]byte, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	b, err := json.MarshalIndent(c, "", "  ")
	return append(b, '\n'), err
}

// maxHeld bounds every duration: nobody holds a crashed process for longer, whatever is configured.
const maxHeld = Duration(time.Hour)

// Validate tells what of a configuration cannot be.
func (c *Config) Validate() error {
	check := func(ok bool, what string, value any) error {
		if ok {
			return nil
		}
		return fmt.Errorf("%s: got %v", what, value)
	}
	errs := []error{
		check(filepath.IsAbs(c.Spool) && filepath.Clean(c.Spool) == c.Spool && c.Spool != "/" && !strings.ContainsRune(c.Spool, 0),
			"spool must be an absolute path", c.Spool),
		check(c.MaxSize > 0, "maxSize must be positive", c.MaxSize),
		check(c.CutSize >= 0, "cutSize must not be negative", c.CutSize),
		check(c.SpoolBytes >= 0, "spoolBytes must not be negative", c.SpoolBytes),
		check(c.SpoolEntries >= 0, "spoolEntries must not be negative", c.SpoolEntries),
		check(c.MinFreeBytes >= 0, "minFreeBytes must not be negative", c.MinFreeBytes),
		check(c.MinFreeInodes >= 0, "minFreeInodes must not be negative", c.MinFreeInodes),
		check(c.Deadline > 0 && c.Deadline <= maxHeld, "deadline must be positive and at most 1h", c.Deadline),
		check(c.StallTimeout > 0 && c.StallTimeout <= maxHeld, "stallTimeout must be positive and at most 1h", c.StallTimeout),
		check(c.AnswerTimeout >= 0 && c.AnswerTimeout <= c.Deadline, "answerTimeout must be between 0 and the deadline", c.AnswerTimeout),
		check(c.MaxConcurrent > 0 && c.MaxConcurrent <= 1024, "maxConcurrent must be from 1 to 1024", c.MaxConcurrent),
		check(len(c.Forward) <= 128, "forward must be a core_pattern", c.Forward),
	}
	return errors.Join(errs...)
}

// Duration is a time.Duration that is written as people write it: "500ms".
type Duration time.Duration

func (d Duration) String() string { return time.Duration(d).String() }

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	*d = Duration(v)
	return err
}
