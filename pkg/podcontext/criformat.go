// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package podcontext

import "bytes"

// decode makes lines of a log in the format of CRI:
//
//	2016-10-06T00:17:09.669794202Z stdout P the first part of a long line
//	2016-10-06T00:17:09.669794203Z stdout F , and its end
//
// Parts of a line are joined, under the time of the first; the streams are told apart. What has not this form is left as it is.
// See the KEP "CRI: log management" and parseCRILog of k8s.io/cri-client/pkg/logs.
func decode(text []byte) [][]byte {
	var lines [][]byte
	var open [2]int // index+1 of the unfinished line of stdout and stderr
	for raw := range bytes.SplitSeq(text, []byte("\n")) {
		if len(raw) == 0 {
			continue
		}
		head, content, stream, partial, ok := split(raw)
		if !ok {
			lines = append(lines, bytes.Clone(raw))
			continue
		}
		if i := open[stream] - 1; i >= 0 {
			lines[i] = append(lines[i], content...)
		} else {
			lines = append(lines, append(append(bytes.Clone(head), ' '), content...))
			open[stream] = len(lines)
		}
		if !partial {
			open[stream] = 0
		}
	}
	return lines
}

// split takes a line apart: time and stream, what was written, which stream, and whether more follows.
func split(raw []byte) (head, content []byte, stream int, partial, ok bool) {
	time, rest, ok1 := bytes.Cut(raw, []byte(" "))
	name, rest, ok2 := bytes.Cut(rest, []byte(" "))
	tags, content, ok3 := bytes.Cut(rest, []byte(" "))
	if !ok1 || !ok2 || len(time) < len("2006-01-02T15:04:05Z") || len(time) > 64 || time[4] != '-' || time[10] != 'T' {
		return nil, nil, 0, false, false
	}
	switch string(name) {
	case "stdout":
	case "stderr":
		stream = 1
	default:
		return nil, nil, 0, false, false
	}
	tag, _, _ := bytes.Cut(tags, []byte(":"))
	switch string(tag) {
	case "P":
		partial = true
	case "F":
	default:
		return nil, nil, 0, false, false
	}
	if !ok3 {
		content = nil
	}
	return raw[:len(time)+1+len(name)], content, stream, partial, true
}
