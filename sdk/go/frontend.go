// Package rhost is for writing frontends for rhost: a frontend is a function from what the user asked to what is to be built.
//
//	func init() { rhost.Frontend(build) }
//	func main() {}
//
//	func build(invocation *rhost.Invocation) (*rhost.Outcome, error) {
//		file, err := rhost.ReadBuildFile(invocation)
//		if err != nil {
//			return nil, err
//		}
//		outcome := rhost.NewOutcome()
//		for _, platform := range invocation.Platforms() {
//			base, err := rhost.Resolve("docker.io/library/busybox", platform).Wait()
//			if err != nil {
//				return nil, err
//			}
//			if err := base.Shell(file.Text, rhost.Name("run the script")); err != nil {
//				return nil, err
//			}
//			outcome.Add(platform, base)
//		}
//		return outcome, nil
//	}
//
// What takes long comes as a promise with Wait: start many, then wait for each. The host works on all of them at once; goroutines run on one thread, and while one
// waits for the host none of the others runs.
package rhost

import (
	"strings"
	"unicode/utf8"

	"github.com/rhost/rhost/sdk/go/internal/runtime"
	"github.com/rhost/rhost/sdk/go/internal/types"
	"github.com/rhost/rhost/sdk/go/internal/wit/rhost_frontend_context"
	"github.com/rhost/rhost/sdk/go/internal/wit/rhost_frontend_invocation"
	"github.com/rhost/rhost/sdk/go/internal/wit/rhost_frontend_llb"
	"github.com/rhost/rhost/sdk/go/internal/wit/rhost_frontend_outcome"
	"github.com/rhost/rhost/sdk/go/internal/wit/rhost_frontend_report"
	wire "github.com/rhost/rhost/sdk/go/internal/wit/rhost_frontend_types"
)

// Platform is a platform in OCI's words.
type Platform = wire.Platform

// FileStat is facts on one file.
type FileStat = wire.FileStat

// Pair is a name and its value.
type Pair struct{ Name, Value string }

func pairs(raw []types.Tuple2[string, string]) []Pair {
	made := make([]Pair, len(raw))
	for i, pair := range raw {
		made[i] = Pair{strings.Clone(pair.F0), strings.Clone(pair.F1)}
	}
	runtime.Unpin()
	return made
}

// Invocation is what the user asked for.
type Invocation struct {
	raw *rhost_frontend_invocation.Invocation
}

// BuildFile is the build file's path in the context `dockerfile`.
func (i *Invocation) BuildFile() string { return i.raw.BuildFile() }

// Target is what --target says; empty if nothing.
func (i *Invocation) Target() string {
	target, _ := i.raw.Target().Get()
	return target
}

// Platforms are those to build for: one Outcome.Add is expected for each.
func (i *Invocation) Platforms() []Platform { return i.raw.Platforms() }

// BuildPlatform is what commands run on without emulation.
func (i *Invocation) BuildPlatform() Platform { return i.raw.BuildPlatform() }

// BuildArgs are those of --build-arg, in the order given.
func (i *Invocation) BuildArgs() []Pair { return pairs(i.raw.BuildArgs()) }

// Labels are those of --label, to be added to the image's.
func (i *Invocation) Labels() []Pair { return pairs(i.raw.Labels()) }

// NamedContexts are those of --build-context.
func (i *Invocation) NamedContexts() []Pair { return pairs(i.raw.NamedContexts()) }

// RawOption is one of BuildKit's raw frontend options, and whether it is there.
func (i *Invocation) RawOption(key string) (string, bool) { return i.raw.RawOption(key).Get() }

// Supports tells whether the host has a feature.
func (i *Invocation) Supports(feature string) bool { return i.raw.Supports(feature) }

// BuildFile is the build file of an invocation.
type BuildFile struct {
	// Name is as the user knows it, Text as it is.
	Name, Text string
	source     *rhost_frontend_llb.SourceMap
}

// ReadBuildFile reads it.
func ReadBuildFile(invocation *Invocation) (*BuildFile, error) {
	name := invocation.BuildFile()
	data, err := readFile("dockerfile", name)
	if err != nil {
		return nil, err
	}
	if !utf8.Valid(data) {
		return nil, Errorf("%s is not UTF-8", name)
	}
	source := rhost_frontend_llb.MakeSourceMap(name, "", data, types.None[*rhost_frontend_llb.State]())
	return &BuildFile{name, string(data), source}, nil
}

// Line is a line of a build file, counted from 1.
type Line struct {
	Number int
	Text   string
}

// Lines are its lines without spaces around them; without empty ones and those that begin with `#`.
func (f *BuildFile) Lines() []Line {
	var lines []Line
	for i, text := range strings.Split(f.Text, "\n") {
		if text = strings.TrimSpace(text); text != "" && text[0] != '#' {
			lines = append(lines, Line{i + 1, text})
		}
	}
	return lines
}

// At says of an operation that it comes from a line.
func (f *BuildFile) At(line int) Option {
	return Option{about: func(m *rhost_frontend_llb.Metadata) { m.Location(f.source, []wire.Range{whole(line)}) }}
}

// Error shows an error in a line, and gives what to return. help may be empty.
func (f *BuildFile) Error(line int, message, help string) error {
	finding := rhost_frontend_report.MakeDiagnostic(rhost_frontend_report.SeverityError, message)
	finding.Mark(f.source, whole(line), "")
	if help != "" {
		finding.Help(help)
	}
	finding.Emit()
	return Errorf("%s:%d: %s", f.Name, line, message)
}

// Warn shows a warning on a line. code is a stable name for this kind of finding.
func (f *BuildFile) Warn(line int, code, message string) {
	rhost_frontend_report.Warning(code, message, types.Some(f.source), []wire.Range{whole(line)})
}

func whole(line int) wire.Range {
	position := wire.Position{Line: uint32(line)}
	return wire.Range{Start: position, End: position}
}

// Level is how much a log line matters.
type Level = rhost_frontend_report.Level

// The levels.
const (
	LevelTrace = rhost_frontend_report.LevelTrace
	LevelDebug = rhost_frontend_report.LevelDebug
	LevelInfo  = rhost_frontend_report.LevelInfo
	LevelWarn  = rhost_frontend_report.LevelWarn
	LevelError = rhost_frontend_report.LevelError
)

// Log writes a line to the build's log.
func Log(level Level, message string) { rhost_frontend_report.Log(level, message) }

func readFile(context, path string) ([]byte, error) {
	data, err := answer(rhost_frontend_context.ReadFile(context, path, types.None[wire.ByteRange]()))
	// A copy of ours, so that what the host handed over can go.
	data = append([]byte(nil), data...)
	runtime.Unpin()
	return data, err
}

// ReadContext is the text of a file of the context `context`, and whether it is there.
func ReadContext(path string) (string, bool, error) {
	data, err := readFile("context", path)
	if IsNotFound(err) {
		return "", false, nil
	}
	return string(data), err == nil, err
}

// ReadContextDir is the entries of a directory of the context `context`, sorted by name.
func ReadContextDir(path string) ([]FileStat, error) {
	return answer(rhost_frontend_context.ReadDir("context", path, types.None[string]()))
}

// Outcome is the answer of a build.
type Outcome struct {
	raw *rhost_frontend_outcome.Outcome
}

// NewOutcome is one without results.
func NewOutcome() *Outcome { return &Outcome{rhost_frontend_outcome.MakeOutcome()} }

// Add adds the result for one platform.
func (o *Outcome) Add(platform Platform, base *Base) {
	var config []byte
	if base.Config != nil {
		config = base.Config.JSON()
	}
	o.raw.Add(platform, base.State.raw, config)
}

// Metadata adds an entry of result metadata, as in `result.json`.
func (o *Outcome) Metadata(key string, value []byte) { o.raw.Metadata(key, value) }
