// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package host

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"

	"example.io/coredump/pkg/capture"
)

// MaxPattern is the longest core_pattern in bytes: CORENAME_MAX_SIZE of the kernel less the NUL. What is longer is cut by the kernel without a word.
const MaxPattern = 127

// program matches the name of an installed corepipe: the first 12 hex digits of the SHA-256 of its bytes tell versions apart.
var program = regexp.MustCompile(`^corepipe-[0-9a-f]{12}$`)

// PipePattern is the core_pattern that runs the installed program (see Host.Install), a path on the host.
func PipePattern(program string) (string, error) {
	return checked("|" + program + " " + capture.Specifiers)
}

// SocketPattern is the core_pattern that delivers to the socket, a path on the host.
func SocketPattern(path string) (string, error) {
	switch {
	case !filepath.IsAbs(path) || filepath.Clean(path) != path:
		return "", fmt.Errorf("the socket's path %q must be absolute, without . and .. in it", path)
	case strings.ContainsAny(path, " \t\n%"):
		return "", fmt.Errorf("the socket's path %q must not contain blanks or %%", path)
	case len(path) > 107:
		return "", fmt.Errorf("the socket's path %q is %d bytes long: at most 107 are allowed, see unix(7)", path, len(path))
	}
	return checked("@@" + path)
}

func checked(pattern string) (string, error) {
	if len(pattern) > MaxPattern {
		return "", fmt.Errorf("core_pattern would be %d bytes long, and the kernel takes %d: use a directory with a shorter path than in %q",
			len(pattern), MaxPattern, pattern)
	}
	if strings.ContainsAny(pattern, "\n\x00") {
		return "", fmt.Errorf("core_pattern %q contains a newline or NUL", pattern)
	}
	return pattern, nil
}

// kind is whose a core_pattern is.
type kind int

const (
	foreign kind = iota
	ours
	sibling // another installation of this software
)

// whose tells whose a pattern is. dir and socket are ours, as the host names them.
func whose(pattern, dir, socket string) kind {
	if pattern == "@@"+socket && socket != "" {
		return ours
	}
	words := strings.Fields(pattern)
	if len(words) == 0 || !strings.HasPrefix(words[0], "|/") || !program.MatchString(filepath.Base(words[0])) {
		return foreign
	}
	if filepath.Dir(words[0][1:]) == filepath.Clean(dir) {
		return ours
	}
	return sibling
}

// Forbids says whether a core_pattern is there to have no dumps at all, as hardening guides ask for (DISA STIG and CIS for RHEL: |/bin/false).
func Forbids(pattern string) bool {
	if pattern == "" || pattern == "/dev/null" {
		return true
	}
	if pattern[0] != '|' {
		return false
	}
	words := strings.Fields(pattern[1:])
	if len(words) == 0 {
		return true
	}
	name := filepath.Base(words[0])
	if (name == "busybox" || name == "toybox") && len(words) > 1 {
		name = words[1]
	}
	switch name {
	case "false", "true", "nologin", "null", ":":
		return true
	}
	return false
}
