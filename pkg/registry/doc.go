// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

// Package registry holds the REST storages of the API group. The packages below it are
//
//	coredump, coredumpendpoint   the two resources with their subresources
//	download                     the stream that all four subresources answer with
//	access                       who may see which dump
//	status                       errors as API Statuses
//	page, table                  what lists have in common
//	unreadable                   records that cannot be understood
//
// Nothing here knows what kind of bucket the dumps are in.
package registry
