// Package export_wit_world is what generated exports call: the frontend's function, set by the SDK.
package export_wit_world

import (
	"github.com/rhost/rhost/sdk/go/internal/types"
	wit "github.com/rhost/rhost/sdk/go/internal/wit/wit_world"
)

// Frontend is the function that answers.
var Frontend func(*wit.Invocation) types.Result[*wit.Outcome, wit.Error]

// Build is the world's export.
func Build(invocation *wit.Invocation) types.Result[*wit.Outcome, wit.Error] {
	return Frontend(invocation)
}
