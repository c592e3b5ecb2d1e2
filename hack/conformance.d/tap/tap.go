// Package tap prints the Test Anything Protocol (TAP 13, testanything.org). The validation programs import a package of this
// name that Debian does not have; this one has the calls that they make.
package tap

import (
	"encoding/json"
	"fmt"
	"strings"
)

// T counts the tests of one program.
type T struct {
	count *int
	todo  string
}

// New makes a T and says the protocol's version.
func New() *T {
	fmt.Println("TAP version 13")
	return &T{count: new(int)}
}

// Todo makes a T with the same count whose results are marked as "may fail".
func (t *T) Todo() *T { return &T{count: t.count, todo: " # TODO"} }

// Header prints the plan, if it is known beforehand.
func (t *T) Header(tests int) {
	if tests > 0 {
		fmt.Printf("1..%d\n", tests)
	}
}

// AutoPlan prints the plan after the tests.
func (t *T) AutoPlan() { fmt.Printf("1..%d\n", *t.count) }

// Ok prints a result.
func (t *T) Ok(passed bool, description string) {
	*t.count++
	not := "not "
	if passed {
		not = ""
	}
	fmt.Printf("%sok %d - %s%s\n", not, *t.count, description, t.todo)
}

// Pass prints a success.
func (t *T) Pass(description string) { t.Ok(true, description) }

// Fail prints a failure.
func (t *T) Fail(description string) { t.Ok(false, description) }

// Skip prints so many skipped tests.
func (t *T) Skip(tests int, description string) {
	for ; tests > 0; tests-- {
		*t.count++
		fmt.Printf("ok %d # SKIP %s\n", *t.count, description)
	}
}

// Diagnostic prints a comment.
func (t *T) Diagnostic(text string) { fmt.Println("# " + strings.ReplaceAll(text, "\n", "\n# ")) }

// Diagnosticf prints a formatted comment.
func (t *T) Diagnosticf(format string, args ...interface{}) {
	t.Diagnostic(fmt.Sprintf(format, args...))
}

// YAML prints a block about the test before it. JSON is YAML.
func (t *T) YAML(value interface{}) error {
	text, err := json.MarshalIndent(value, "  ", "  ")
	if err == nil {
		fmt.Printf("  ---\n  %s\n  ...\n", text)
	}
	return err
}
