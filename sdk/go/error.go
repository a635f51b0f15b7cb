package rhost

import (
	"errors"
	"fmt"
	"runtime"
	"strings"

	"github.com/rhost/rhost/sdk/go/internal/types"
	"github.com/rhost/rhost/sdk/go/internal/wit/export_wit_world"
	wire "github.com/rhost/rhost/sdk/go/internal/wit/rhost_frontend_types"
	world "github.com/rhost/rhost/sdk/go/internal/wit/wit_world"
	// The component's export.
	_ "github.com/rhost/rhost/sdk/go/internal/wit/wit_exports"
)

// Kind is what sort of error it is: one of the WIT package's.
type Kind uint8

// The kinds of errors.
const (
	NotFound    = Kind(wire.ErrorNotFound)
	Denied      = Kind(wire.ErrorDenied)
	Invalid     = Kind(wire.ErrorInvalid)
	Unsupported = Kind(wire.ErrorUnsupported)
	TooLarge    = Kind(wire.ErrorTooLarge)
	Failed      = Kind(wire.ErrorFailed)
	Other       = Kind(wire.ErrorOther)
)

// Error is what the host refuses, and what ends a build.
type Error struct {
	Kind    Kind
	Message string
}

func (e *Error) Error() string { return e.Message }

// Errorf is an error for people: what was wanted, what was found, what to do.
func Errorf(format string, arguments ...any) error {
	return &Error{Failed, fmt.Sprintf(format, arguments...)}
}

// IsNotFound tells whether an error says that something is not there.
func IsNotFound(err error) bool {
	var known *Error
	return errors.As(err, &known) && known.Kind == NotFound
}

// Frontend makes a component of a function. Call it in an init function of package main.
func Frontend(build func(*Invocation) (*Outcome, error)) {
	export_wit_world.Frontend = func(raw *world.Invocation) (answer types.Result[*world.Outcome, world.Error]) {
		defer func() {
			if panicked := recover(); panicked != nil {
				// A mistake of the frontend's own: the person who writes it wants to know where.
				Log(LevelError, fmt.Sprintf("panic: %v\n%s", panicked, trace()))
				answer = refuse(Errorf("panic: %v%s", panicked, place()))
			}
		}()
		outcome, err := build(&Invocation{raw})
		if err != nil {
			return refuse(err)
		}
		if outcome == nil {
			return refuse(Errorf("the frontend gave neither an outcome nor an error"))
		}
		return types.Ok[*world.Outcome, world.Error](outcome.raw)
	}
}

func refuse(err error) types.Result[*world.Outcome, world.Error] {
	known := &Error{Failed, err.Error()}
	var inner *Error
	if errors.As(err, &inner) {
		known.Kind = inner.Kind
	}
	makers := [...]func(string) wire.Error{
		wire.MakeErrorNotFound, wire.MakeErrorDenied, wire.MakeErrorInvalid, wire.MakeErrorUnsupported, wire.MakeErrorTooLarge, wire.MakeErrorFailed,
		wire.MakeErrorOther,
	}
	return types.Err[*world.Outcome, world.Error](makers[known.Kind](known.Message))
}

// ours tells whether a frame is the SDK's or Go's own. By its file too: what was inlined into the frontend bears the frontend's name.
func ours(frame runtime.Frame) bool {
	const sdk = "github.com/rhost/rhost/sdk/go"
	return strings.HasPrefix(frame.Function, "runtime.") || strings.HasPrefix(frame.Function, sdk) || strings.HasPrefix(frame.File, sdk)
}

func frames() []runtime.Frame {
	callers := make([]uintptr, 40)
	iterator := runtime.CallersFrames(callers[:runtime.Callers(2, callers)])
	var found []runtime.Frame
	for {
		frame, more := iterator.Next()
		if !ours(frame) {
			found = append(found, frame)
		}
		if !more {
			return found
		}
	}
}

func place() string {
	for _, frame := range frames() {
		return fmt.Sprintf(" at %s:%d", frame.File[strings.LastIndexByte(frame.File, '/')+1:], frame.Line)
	}
	return ""
}

func trace() string {
	var text strings.Builder
	for _, frame := range frames() {
		fmt.Fprintf(&text, "  %s %s:%d\n", frame.Function, frame.File, frame.Line)
	}
	return strings.TrimRight(text.String(), "\n")
}

func failure(err wire.Error) error {
	readers := [...]func() string{err.NotFound, err.Denied, err.Invalid, err.Unsupported, err.TooLarge, err.Failed, err.Other}
	return &Error{Kind(err.Tag()), readers[err.Tag()]()}
}

// answer is what the host said, as Go says it.
func answer[T any](result types.Result[T, wire.Error]) (T, error) {
	if result.IsErr() {
		var none T
		return none, failure(result.Err())
	}
	return result.Ok(), nil
}

func option(text string) types.Option[string] {
	if text == "" {
		return types.None[string]()
	}
	return types.Some(text)
}
