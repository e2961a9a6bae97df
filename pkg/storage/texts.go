// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"maps"
	"slices"
	"strconv"

	"k8s.io/apimachinery/pkg/util/validation"

	"example.io/coredump/pkg/apis/coredump/v1alpha1"
)

const (
	// maxText bounds the length of a text in a record in bytes.
	maxText = 1024
	// maxLabels bounds the number of labels of a record.
	maxLabels = 256
)

// texts are the strings of a record that tenants have a say in and that checkRecord does not check: they are shown on
// terminals and in logs.
func texts(d *v1alpha1.CoreDump) []*string {
	spec, status := &d.Spec, &d.Status
	all := []*string{
		&spec.PodUID, &spec.NamespaceUID, &spec.ContainerID, &spec.Image, &spec.ImageID, &spec.NodeName, &spec.ClusterName,
		&spec.Process.Executable, &spec.Process.Comm, &spec.Process.SignalName,
		(*string)(&spec.Capture.Mode), (*string)(&spec.Capture.Identity), &spec.Capture.File, &spec.Capture.Handler,
		&status.Checksum, &status.TruncatedReason,
	}
	if o := spec.Owner; o != nil {
		all = append(all, &o.APIVersion, &o.Kind, &o.Name, &o.UID)
	}
	if s := status.Summary; s != nil {
		all = append(all, &s.Text, &s.Signature, &s.BuildID, &s.Architecture, &s.Code, &s.Address)
		for i := range s.Frames {
			all = append(all, frameTexts(&s.Frames[i])...)
		}
		for i := range s.Others {
			all = append(all, frameTexts(&s.Others[i].CrashFrame)...)
		}
		for i := range s.Modules {
			m := &s.Modules[i]
			all = append(all, &m.Path, &m.BuildID, &m.Start)
		}
	}
	return all
}

func frameTexts(f *v1alpha1.CrashFrame) []*string {
	return []*string{&f.Address, &f.Module, &f.Offset, &f.BuildID}
}

// cutLists leaves out what is too much of a summary.
func cutLists(s *v1alpha1.CrashSummary) {
	if s == nil {
		return
	}
	s.Frames = s.Frames[:min(len(s.Frames), v1alpha1.MaxFrames)]
	s.Others = s.Others[:min(len(s.Others), v1alpha1.MaxOtherThreads)]
	s.Modules = s.Modules[:min(len(s.Modules), v1alpha1.MaxModules)]
}

// printable gives s unchanged if it is printable ASCII and not too long. Otherwise the bytes that are not are escaped as in Go
// strings, and the end is cut. What it returns it returns unchanged again.
func printable(s string) string {
	long := len(s) > maxText
	s = s[:min(len(s), maxText)]
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			quoted := strconv.QuoteToASCII(s)
			s = quoted[1 : len(quoted)-1]
			break
		}
	}
	const cut = "..."
	if long || len(s) > maxText {
		return s[:min(len(s), maxText-len(cut))] + cut
	}
	return s
}

// cleanLabels leaves out what Kubernetes would not take as a label, and what is too much.
func cleanLabels(labels map[string]string) map[string]string {
	var clean map[string]string
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		if len(validation.IsQualifiedName(name)) > 0 || len(validation.IsValidLabelValue(labels[name])) > 0 {
			continue
		}
		if clean == nil {
			clean = map[string]string{}
		}
		if clean[name] = labels[name]; len(clean) == maxLabels {
			break
		}
	}
	return clean
}
