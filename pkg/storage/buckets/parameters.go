// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package buckets

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
)

// parameters are those that a scheme has, by name. Each takes its value, or says what is allowed.
type parameters map[string]func(value string) error

// take gives the parameters the values in the query of u. Its error has a line for each that is wrong.
func (p parameters) take(u *url.URL) error {
	values, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return fmt.Errorf("parameters: %w", err)
	}
	var errs []error
	for _, name := range sorted(values) {
		set, known := p[name]
		switch {
		case !known:
			errs = append(errs, fmt.Errorf("parameter %.40q is unknown: there are %s", name, strings.Join(sorted(p), ", ")))
		case len(values[name]) > 1:
			errs = append(errs, fmt.Errorf("parameter %s is there %d times: once is allowed", name, len(values[name])))
		default:
			if err := set(values[name][0]); err != nil {
				errs = append(errs, fmt.Errorf("parameter %s=%.80q: %w", name, values[name][0], err))
			}
		}
	}
	return errors.Join(errs...)
}

func sorted[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func text(to *string) func(string) error {
	return func(s string) error {
		*to = s
		if s == "" {
			return errors.New("must not be empty")
		}
		return nil
	}
}

func oneOf(to *string, allowed ...string) func(string) error {
	return func(s string) error {
		*to = s
		if !slices.Contains(allowed, s) {
			return fmt.Errorf("must be one of %s", strings.Join(allowed, ", "))
		}
		return nil
	}
}

func boolean(to *bool) func(string) error {
	return func(s string) error {
		if *to = s == "true"; s != "true" && s != "false" {
			return errors.New("must be true or false")
		}
		return nil
	}
}

func number(to *int, least, most int) func(string) error {
	return func(s string) error {
		n, err := strconv.Atoi(s)
		if *to = n; err != nil || n < least || n > most {
			return fmt.Errorf("must be a number from %d to %d", least, most)
		}
		return nil
	}
}

func size(to *int64, least, most int64) func(string) error {
	return func(s string) error {
		q, err := resource.ParseQuantity(s)
		n, exact := q.AsInt64()
		if *to = n; err != nil || !exact || n < least || n > most {
			return fmt.Errorf("must be a size in bytes from %v to %v, for example 8Mi", binary(least), binary(most))
		}
		return nil
	}
}

func binary(n int64) *resource.Quantity { return resource.NewQuantity(n, resource.BinarySI) }

func duration(to *time.Duration, least, most time.Duration) func(string) error {
	return func(s string) error {
		d, err := time.ParseDuration(s)
		if *to = d; err != nil || d < least || d > most {
			return fmt.Errorf("must be a duration from %v to %v, for example 30s", least, most)
		}
		return nil
	}
}
