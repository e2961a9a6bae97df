// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package capture

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestAConfigurationSaysOnlyWhatIsNotTheDefault(t *testing.T) {
	c, err := DecodeConfig([]byte(`{"spool": "/var/coredump/.spool", "deadline": "30s", "procFiles": ["maps"]}`))
	must(t, err)
	want := DefaultConfig()
	want.Spool, want.Deadline, want.ProcFiles = "/var/coredump/.spool", Duration(30*time.Second), []string{"maps"}
	if !reflect.DeepEqual(*c, want) {
		t.Errorf("%+v", c)
	}
	b, err := c.Encode()
	must(t, err)
	if again, err := DecodeConfig(b); err != nil || !reflect.DeepEqual(again, c) {
		t.Errorf("%s became %+v, %v", b, again, err)
	}
}

func TestAConfigurationThatCannotBeIsRefused(t *testing.T) {
	for _, c := range []string{
		``, `{`, `[]`, `{}`, `{"spool": "relative"}`, `{"spool": "/"}`, `{"spool": "/a/../b"}`, `{"spool": "/a"} {}`,
		`{"spool": "/a", "maxSize": 0}`, `{"spool": "/a", "cutSize": -1}`, `{"spool": "/a", "deadline": "0s"}`, `{"spool": "/a", "deadline": "2h"}`,
		`{"spool": "/a", "deadline": 5}`, `{"spool": "/a", "answerTimeout": "1h"}`, `{"spool": "/a", "maxConcurrent": 0}`,
		`{"spool": "/a", "forward": "` + strings.Repeat("x", 129) + `"}`, `{"spool": "/a", "version": "` + strings.Repeat("x", MaxConfig) + `"}`,
	} {
		if got, err := DecodeConfig([]byte(c)); err == nil {
			t.Errorf("%.100s gives %+v", c, got)
		}
	}
}

func TestTheConfigurationOfAnotherVersionIsNoReasonToLoseADump(t *testing.T) {
	c, err := DecodeConfig([]byte(`{"spool": "/a", "maxSize": 5, "ofTheNextVersion": {"a": 1}, "procFiles": ["maps", "timens_offsets"]}`))
	if err != nil || c.MaxSize != 5 {
		t.Errorf("%+v, %v", c, err)
	}
}

func FuzzConfigurationOfCorepipe(f *testing.F) {
	c := DefaultConfig()
	c.Spool = "/spool"
	b, err := c.Encode()
	must(f, err)
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := DecodeConfig(b)
		if err != nil {
			return
		}
		if err := c.Validate(); err != nil {
			t.Error(err)
		}
		if l := c.Limits(); l.Deadline <= 0 || l.MaxSize <= 0 {
			t.Errorf("%+v", l)
		}
	})
}
