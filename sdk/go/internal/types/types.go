// Package types has the WIT types that Go has not: what generated bindings are written in.
package types

// Tags of an Option.
const (
	OptionNone = 0
	OptionSome = 1
)

// Option is WIT's option.
type Option[T any] struct {
	some  bool
	value T
}

// Some is a value.
func Some[T any](value T) Option[T] { return Option[T]{true, value} }

// None is no value.
func None[T any]() Option[T] { return Option[T]{} }

// Tag tells which it is.
func (o Option[T]) Tag() uint8 {
	if o.some {
		return OptionSome
	}
	return OptionNone
}

// Some is the value of one that has it.
func (o Option[T]) Some() T {
	if !o.some {
		panic("the option is none")
	}
	return o.value
}

// Get is the value, and whether there is one.
func (o Option[T]) Get() (T, bool) { return o.value, o.some }

// Tags of a Result.
const (
	ResultOk  = 0
	ResultErr = 1
)

// Result is WIT's result.
type Result[T, E any] struct {
	failed bool
	ok     T
	err    E
}

// Ok is success.
func Ok[T, E any](value T) Result[T, E] { return Result[T, E]{ok: value} }

// Err is failure.
func Err[T, E any](err E) Result[T, E] { return Result[T, E]{failed: true, err: err} }

// Tag tells which it is.
func (r Result[T, E]) Tag() uint8 {
	if r.failed {
		return ResultErr
	}
	return ResultOk
}

// Ok is the value of a success.
func (r Result[T, E]) Ok() T {
	if r.failed {
		panic("the result is an error")
	}
	return r.ok
}

// Err is the error of a failure.
func (r Result[T, E]) Err() E {
	if !r.failed {
		panic("the result is no error")
	}
	return r.err
}

// IsErr tells whether it is a failure.
func (r Result[T, E]) IsErr() bool { return r.failed }

// Tuple2 is WIT's tuple of two.
type Tuple2[A, B any] struct {
	F0 A
	F1 B
}

// Unit is nothing.
type Unit struct{}
