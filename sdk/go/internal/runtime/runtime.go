// Package runtime is what generated bindings need of memory: handles of the host's resources, and room for what the host hands over.
package runtime

import (
	"fmt"
	"runtime"
	"unsafe"
)

// Handle is the number of a host's resource; 0 once it is given away or dropped.
type Handle struct{ number int32 }

// MakeHandle takes a number that the host gave.
func MakeHandle(number int32) *Handle {
	h := &Handle{}
	h.Set(number)
	return h
}

// Use is the number, to be lent to the host.
func (h *Handle) Use() int32 {
	if h.number == 0 {
		panic("a handle is used that was given away or dropped")
	}
	return h.number
}

// Take gives the resource away.
func (h *Handle) Take() int32 {
	number := h.Use()
	h.number = 0
	return number
}

// TakeOrNil is Take, and 0 where there is nothing.
func (h *Handle) TakeOrNil() int32 {
	number := h.number
	h.number = 0
	return number
}

// Set fills an empty handle.
func (h *Handle) Set(number int32) {
	if number == 0 || h.number != 0 {
		panic("a handle is set twice, or to nothing")
	}
	h.number = number
}

// Allocate makes room that stays in its place until pinner lets go.
func Allocate(pinner *runtime.Pinner, size, align uintptr) unsafe.Pointer {
	if size == 0 {
		return nil
	}
	var room unsafe.Pointer
	switch align {
	case 1:
		room = unsafe.Pointer(unsafe.SliceData(make([]uint8, size)))
	case 2:
		room = unsafe.Pointer(unsafe.SliceData(make([]uint16, (size+1)/2)))
	case 4:
		room = unsafe.Pointer(unsafe.SliceData(make([]uint32, (size+3)/4)))
	case 8:
		room = unsafe.Pointer(unsafe.SliceData(make([]uint64, (size+7)/8)))
	default:
		panic(fmt.Sprintf("nothing has an alignment of %d", align))
	}
	pinner.Pin(room)
	return room
}

// What the host has handed over since the last Unpin.
var handed runtime.Pinner

// Unpin lets the collector have what the host has handed over and nobody holds.
func Unpin() { handed.Unpin() }

// Whether Go's own allocator works: the host may hand something over before it does.
var started bool

func init() { started = true }

//go:linkname sbrk runtime.sbrk
func sbrk(n uintptr) unsafe.Pointer

// The adapter's: while it is set, WASI calls stay inside, since the host may not be called while it hands something over.
//
//go:wasmimport wasi_snapshot_preview1 adapter_monotonic_clock_set_paused
func setPaused(paused bool)

//go:wasmexport cabi_realloc
func cabiRealloc(old unsafe.Pointer, oldSize, align, size uintptr) unsafe.Pointer {
	if old != nil || oldSize != 0 {
		panic("the host grows nothing")
	}
	if !started {
		room := uintptr(sbrk(size + align))
		return unsafe.Pointer((room + align - 1) &^ (align - 1))
	}
	setPaused(true)
	room := Allocate(&handed, size, align)
	setPaused(false)
	return room
}
