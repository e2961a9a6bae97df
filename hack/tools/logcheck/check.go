// Copyright The coredump authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"go/ast"
	"go/constant"
	"go/types"
	"regexp"
	"strings"

	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/analysis/passes/inspect"
	"golang.org/x/tools/go/ast/inspector"
	"golang.org/x/tools/go/types/typeutil"
)

var analyzer = &analysis.Analyzer{
	Name:     "logcheck",
	Doc:      "logging is contextual and structured: constant messages with a capital first letter, pairs of constant keys and values",
	Requires: []*analysis.Analyzer{inspect.Analyzer},
	Run:      run,
}

// Where in the arguments of logging functions the message is (-1: there is none) and the keys and values begin.
var structured = map[string]struct{ message, pairs int }{
	"(github.com/go-logr/logr.Logger).Info":       {0, 1},
	"(github.com/go-logr/logr.Logger).Error":      {1, 2},
	"(github.com/go-logr/logr.Logger).WithValues": {-1, 0},
	"k8s.io/klog/v2.LoggerWithValues":             {-1, 1},
}

// unstructured are klog's functions that format a message or log without a context.
var unstructured = regexp.MustCompile(`^(\(k8s\.io/klog/v2\.Verbose\)|k8s\.io/klog/v2)\.(Info|Warning|Error|Fatal|Exit|V$)`)

// capital is a message that begins with a capital letter, behind a keyword in brackets where there is one.
var capital = regexp.MustCompile(`^(\[[a-z]+\] )?\p{Lu}`)

func run(pass *analysis.Pass) (any, error) {
	calls := pass.ResultOf[inspect.Analyzer].(*inspector.Inspector)
	calls.Preorder([]ast.Node{(*ast.CallExpr)(nil)}, func(n ast.Node) {
		call := n.(*ast.CallExpr)
		function, _ := typeutil.Callee(pass.TypesInfo, call).(*types.Func)
		if function == nil {
			return
		}
		name := function.FullName()
		if unstructured.MatchString(name) {
			pass.Reportf(call.Pos(), "%s does not know the context: use klog.FromContext(ctx).Info or .Error", name)
		}
		at, ok := structured[name]
		if !ok {
			return
		}
		if at.message >= 0 {
			checkMessage(pass, call.Args[at.message])
		}
		if !call.Ellipsis.IsValid() { // pairs... was put together elsewhere
			checkPairs(pass, call, call.Args[at.pairs:])
		}
	})
	return nil, nil
}

func checkMessage(pass *analysis.Pass, arg ast.Expr) {
	message, ok := constantString(pass, arg)
	switch {
	case !ok:
		pass.Reportf(arg.Pos(), "the message is not constant: what varies goes into keys and values")
	case !capital.MatchString(message):
		pass.Reportf(arg.Pos(), "the message %q does not begin with a capital letter", message)
	case strings.HasSuffix(message, ".") || strings.Contains(message, "\n"):
		pass.Reportf(arg.Pos(), "the message %q ends with a full stop or has a line break", message)
	}
}

func checkPairs(pass *analysis.Pass, call *ast.CallExpr, pairs []ast.Expr) {
	if len(pairs)%2 != 0 {
		pass.Reportf(call.Pos(), "a key without a value")
	}
	for i := 0; i < len(pairs); i += 2 {
		key, ok := constantString(pass, pairs[i])
		if !ok || key == "" || strings.ContainsAny(key, " =\"\n") {
			pass.Reportf(pairs[i].Pos(), "a key is a constant string without spaces, such as \"podName\"")
		}
	}
}

func constantString(pass *analysis.Pass, e ast.Expr) (string, bool) {
	value := pass.TypesInfo.Types[e].Value
	if value == nil || value.Kind() != constant.String {
		return "", false
	}
	return constant.StringVal(value), true
}
