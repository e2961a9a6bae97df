// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"example.io/coredump/pkg/apis/coredump"
)

// SchemeGroupVersion is this version of the group.
var SchemeGroupVersion = schema.GroupVersion{Group: coredump.GroupName, Version: "v1alpha1"}

var (
	// SchemeBuilder collects what AddToScheme does.
	SchemeBuilder = runtime.NewSchemeBuilder(addKnownTypes)
	// AddToScheme registers the types of this version.
	AddToScheme = SchemeBuilder.AddToScheme
)

// Kind names a kind of this group.
func Kind(kind string) schema.GroupKind {
	return SchemeGroupVersion.WithKind(kind).GroupKind()
}

// CauseCorrupt is among the causes of a Status of code 500 where the stored object is not what its record says: asking again does not help.
const CauseCorrupt metav1.CauseType = "Corrupt"

// Resource names a resource of this group.
func Resource(resource string) schema.GroupResource {
	return SchemeGroupVersion.WithResource(resource).GroupResource()
}

func addKnownTypes(scheme *runtime.Scheme) error {
	scheme.AddKnownTypes(SchemeGroupVersion, types()...)
	metav1.AddToGroupVersion(scheme, SchemeGroupVersion)
	return scheme.AddFieldLabelConversionFunc(SchemeGroupVersion.WithKind("CoreDump"), fieldLabels)
}

func types() []runtime.Object {
	return []runtime.Object{&CoreDump{}, &CoreDumpList{}, &CoreDumpEndpoint{}, &CoreDumpEndpointList{}, &PresignedURL{}}
}

// AddInternalToScheme registers the types of this version as the group's internal ones too. With one
// version there is nothing to convert, and a generic API server decodes into internal types.
func AddInternalToScheme(scheme *runtime.Scheme) error {
	scheme.AddKnownTypes(schema.GroupVersion{Group: coredump.GroupName, Version: runtime.APIVersionInternal}, types()...)
	return nil
}

// fieldLabels admits the field selectors that SelectableFields has values for.
func fieldLabels(label, value string) (string, string, error) {
	if _, ok := SelectableFields(&CoreDump{})[label]; ok {
		return label, value, nil
	}
	return "", "", fmt.Errorf("field label not supported: %q; supported: %s", label, supportedFields)
}
