// Package tap prints results in the Test Anything Protocol (version 13), with
// the calls that the OCI validation programs make.
package tap

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
)

// results is what a T and the views of it share.
type results struct {
	mu     sync.Mutex
	points int
}

// T writes test points to Writer.
type T struct {
	Writer io.Writer
	shared *results
	todo   bool
}

// New returns a T that has printed nothing yet.
func New() *T { return &T{Writer: os.Stdout, shared: &results{}} }

// Header prints the version line, and the plan unless n is 0 (see AutoPlan).
func (t *T) Header(n int) {
	fmt.Fprintln(t.Writer, "TAP version 13")
	if n > 0 {
		fmt.Fprintf(t.Writer, "1..%d\n", n)
	}
}

// Ok prints one test point.
func (t *T) Ok(passed bool, description string) {
	t.shared.mu.Lock()
	defer t.shared.mu.Unlock()
	t.shared.points++
	verdict, todo := "ok", ""
	if !passed {
		verdict = "not ok"
	}
	if t.todo {
		todo = " # TODO"
	}
	fmt.Fprintf(t.Writer, "%s %d - %s%s\n", verdict, t.shared.points, description, todo)
}

// Pass prints a point that is ok.
func (t *T) Pass(description string) { t.Ok(true, description) }

// Fail prints a point that is not ok.
func (t *T) Fail(description string) { t.Ok(false, description) }

// Skip prints n points that were not tried.
func (t *T) Skip(n int, why string) {
	for i := 0; i < n; i++ {
		t.Ok(true, "# SKIP "+why)
	}
}

// Todo returns a view whose points are known not to work yet.
func (t *T) Todo() *T { return &T{Writer: t.Writer, shared: t.shared, todo: true} }

// Count is the number of points printed.
func (t *T) Count() int { return t.shared.points }

// AutoPlan prints the plan from the points printed so far.
func (t *T) AutoPlan() { fmt.Fprintf(t.Writer, "1..%d\n", t.Count()) }

// Diagnostic prints text, each line as a comment.
func (t *T) Diagnostic(text string) {
	for _, line := range strings.Split(strings.TrimRight(text, "\n"), "\n") {
		fmt.Fprintln(t.Writer, "# "+line)
	}
}

// Diagnosticf is Diagnostic with a format.
func (t *T) Diagnosticf(format string, args ...interface{}) {
	t.Diagnostic(fmt.Sprintf(format, args...))
}

// YAML prints a value below the last point; JSON is YAML too.
func (t *T) YAML(value interface{}) error {
	text, err := json.MarshalIndent(value, "  ", "  ")
	if err == nil {
		fmt.Fprintf(t.Writer, "  ---\n  %s\n  ...\n", text)
	}
	return err
}
