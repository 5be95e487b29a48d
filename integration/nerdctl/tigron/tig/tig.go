// Package tig stands for a package of nerdctl's test framework. nerdctl's program contains its test helpers, which name
// one type of it, and the module has no version of its own that could be fetched.
package tig

import "testing"

// T is what a test helper is given.
type T = testing.TB
