package rhost

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"

	"github.com/rhost/rhost/sdk/go/internal/runtime"
	"github.com/rhost/rhost/sdk/go/internal/types"
	llb "github.com/rhost/rhost/sdk/go/internal/wit/rhost_frontend_llb"
	"github.com/rhost/rhost/sdk/go/internal/wit/rhost_frontend_solve"
	wire "github.com/rhost/rhost/sdk/go/internal/wit/rhost_frontend_types"
)

// State is a file tree to be. It never changes: every operation gives a new one.
type State struct{ raw *llb.State }

// Option is one of an operation's options: of a command, of files, or about any operation.
type Option struct {
	about func(*llb.Metadata)
	exec  func(*llb.Exec)
	copy  func(*copyOptions)
}

// Name is what progress shows.
func Name(name string) Option { return Option{about: func(m *llb.Metadata) { m.Name(name) }} }

// IgnoreCache makes the operation run even if the cache has its result.
func IgnoreCache() Option { return Option{about: func(m *llb.Metadata) { m.IgnoreCache() }} }

func metadata(options []Option) *llb.Metadata {
	made := llb.MakeMetadata()
	for _, option := range options {
		if option.about != nil {
			option.about(made)
		}
	}
	return made
}

func state(result types.Result[*llb.State, wire.Error]) (State, error) {
	raw, err := answer(result)
	runtime.Unpin()
	return State{raw}, err
}

// Digest is that of the operation; empty for scratch. Equal graphs have equal digests.
func (s State) Digest() string {
	digest, _ := s.raw.Digest().Get()
	return digest
}

func exec(change func(*llb.Exec)) Option { return Option{exec: change} }

// Env sets a variable of a command.
func Env(name, value string) Option { return exec(func(e *llb.Exec) { e.Env(name, value) }) }

// Dir sets a command's working directory.
func Dir(path string) Option { return exec(func(e *llb.Exec) { e.Cwd(path) }) }

// User sets who runs a command.
func User(user string) Option { return exec(func(e *llb.Exec) { e.User(user) }) }

// On sets the platform whose programs a command runs.
func On(platform Platform) Option { return exec(func(e *llb.Exec) { e.Platform(platform) }) }

// Network is which network a command sees.
type Network = llb.NetworkMode

// The networks.
const (
	NetworkSandbox = llb.NetworkModeSandbox
	NetworkHost    = llb.NetworkModeHost
	NetworkNone    = llb.NetworkModeNone
)

// WithNetwork sets which network a command sees.
func WithNetwork(mode Network) Option { return exec(func(e *llb.Exec) { e.Network(mode) }) }

// Insecure gives a command all capabilities: the user has to allow it.
func Insecure() Option { return exec(func(e *llb.Exec) { e.Security(llb.SecurityModeInsecure) }) }

// Host adds a line to a command's /etc/hosts.
func Host(name, ip string) Option { return exec(func(e *llb.Exec) { e.ExtraHost(name, ip) }) }

// Ulimit adds a resource limit, as in `nofile`.
func Ulimit(name string, soft, hard int64) Option {
	return exec(func(e *llb.Exec) { e.Ulimit(name, soft, hard) })
}

// ValidExitCodes are those that count as success, instead of 0 alone.
func ValidExitCodes(codes ...int32) Option {
	return exec(func(e *llb.Exec) { e.ValidExitCodes(codes) })
}

// ReadOnlyRoot makes the root file system read-only.
func ReadOnlyRoot() Option { return exec(func(e *llb.Exec) { e.ReadOnlyRoot() }) }

// Mode is what becomes of writes to a mounted tree.
type Mode = llb.BindMode

// The modes: writes fail; they are gone after the command; they are kept, for Ran.Output.
const (
	ReadOnly = llb.BindModeReadOnly
	Discard  = llb.BindModeDiscard
	Keep     = llb.BindModeKeep
)

// Mount mounts path of a tree (empty: all of it).
func Mount(target string, tree State, path string, mode Mode) Option {
	return exec(func(e *llb.Exec) { e.Mount(target, tree.raw, path, mode) })
}

// Sharing is how concurrent commands share a cache.
type Sharing = llb.CacheSharing

// The ways to share.
const (
	Shared  = llb.CacheSharingShared
	Private = llb.CacheSharingPrivate
	Locked  = llb.CacheSharingLocked
)

// Cache mounts a directory that outlives the build.
func Cache(target, id string, sharing Sharing, how ...CacheOption) Option {
	var options cacheOptions
	for _, change := range how {
		change(&options)
	}
	return exec(func(e *llb.Exec) {
		from := options.from.raw
		if !options.given {
			from = llb.Scratch()
		}
		e.MountCache(target, id, sharing, from, options.path, options.readOnly)
	})
}

// Tmpfs mounts an empty directory in memory; size in bytes, 0 for no limit.
func Tmpfs(target string, size uint64) Option {
	return exec(func(e *llb.Exec) { e.MountTmpfs(target, size) })
}

// Secret mounts the user's secret as a file that root alone can read, unless said otherwise.
func Secret(target, id string, how ...Lent) Option {
	l := lend(0o400, how)
	return exec(func(e *llb.Exec) { e.MountSecret(target, id, l.optional, l.access) })
}

// SecretEnv sets a variable to the user's secret. Of how only Optional matters.
func SecretEnv(name, id string, how ...Lent) Option {
	l := lend(0, how)
	return exec(func(e *llb.Exec) { e.SecretEnv(name, id, l.optional) })
}

// SSH lends a command the user's ssh agent (`default` by custom), by SSH_AUTH_SOCK.
func SSH(id string, how ...Lent) Option {
	l := lend(0o600, how)
	return exec(func(e *llb.Exec) { e.MountSsh(l.target, id, l.optional, l.access) })
}

// Ran is a command in the graph.
type Ran struct {
	// Root is the root file system after it.
	Root State
	exec *llb.Exec
}

// Output is what was mounted at target with mode Keep, after it.
func (r Ran) Output(target string) (State, error) { return state(r.exec.Output(target)) }

// Run runs a command.
func (s State) Run(args []string, options ...Option) (Ran, error) {
	command := llb.MakeExec(s.raw, args)
	for _, option := range options {
		if option.exec != nil {
			option.exec(command)
		}
	}
	root, err := state(command.Run(metadata(options)))
	return Ran{root, command}, err
}

type copyOptions struct {
	exact     bool
	alone     bool
	flags     llb.CopyFlags
	owner     types.Option[llb.Owner]
	timestamp types.Option[int64]
	actions   []func(*llb.CopyAction)
}

func copying(change func(*llb.CopyAction)) Option {
	return Option{copy: func(o *copyOptions) { o.actions = append(o.actions, change) }}
}

// Exact makes a copy take just the one path, instead of doing as a build file's COPY does; and Rm remove just the one, which must be there.
func Exact() Option { return Option{copy: func(o *copyOptions) { o.exact = true }} }

// Unpack makes a copy unpack archives.
func Unpack() Option { return Option{copy: func(o *copyOptions) { o.flags |= llb.CopyFlagsUnpack }} }

// Chmod sets the permission bits of what is copied.
func Chmod(bits uint32) Option { return copying(func(a *llb.CopyAction) { a.Mode(bits) }) }

// Include copies only what matches one of these patterns; Exclude not what does.
func Include(patterns ...string) Option {
	return copying(func(a *llb.CopyAction) { a.Include(patterns) })
}

// Exclude leaves out what matches one of these patterns.
func Exclude(patterns ...string) Option {
	return copying(func(a *llb.CopyAction) { a.Exclude(patterns) })
}

func identity(who string) types.Option[llb.Identity] {
	if who == "" {
		return types.None[llb.Identity]()
	}
	if number, err := strconv.ParseUint(who, 10, 32); err == nil {
		return types.Some(llb.MakeIdentityId(uint32(number)))
	}
	return types.Some(llb.MakeIdentityName(who))
}

// Files are changes of files, done in order as one operation.
type Files struct{ raw *llb.File }

// Files begins changes of files on a tree.
func (s State) Files() *Files { return &Files{llb.MakeFile(s.raw)} }

const likeCopy = llb.CopyFlagsFollowSymlinks | llb.CopyFlagsContentsOnly | llb.CopyFlagsCreateDestination |
	llb.CopyFlagsWildcard | llb.CopyFlagsAllowEmptyWildcard

// Copy adds a copy, done as a build file's COPY does: links followed, a directory's contents, wildcards, directories made.
func (f *Files) Copy(from State, source, destination string, options ...Option) *Files {
	wanted := chosen(options)
	if !wanted.exact {
		wanted.flags |= likeCopy
	}
	action := llb.MakeCopyAction(from.raw, source, destination)
	if wanted.flags != 0 {
		action.Options(wanted.flags)
	}
	if owner, given := wanted.owner.Get(); given {
		action.Owner(owner)
	}
	for _, change := range wanted.actions {
		change(action)
	}
	if nanoseconds, given := wanted.timestamp.Get(); given {
		action.Timestamp(nanoseconds)
	}
	f.raw.Copy(action)
	return f
}

// Mkdir adds a directory, with missing ones above it. Options: Chown, Timestamp, Alone.
func (f *Files) Mkdir(path string, mode uint32, options ...Option) *Files {
	wanted := chosen(options)
	f.raw.Mkdir(path, mode, !wanted.alone, wanted.owner, wanted.timestamp)
	return f
}

// Mkfile adds a file. Options: Chown, Timestamp.
func (f *Files) Mkfile(path string, mode uint32, data string, options ...Option) *Files {
	wanted := chosen(options)
	f.raw.Mkfile(path, mode, []byte(data), wanted.owner, wanted.timestamp)
	return f
}

// Symlink adds a symbolic link at path. Options: Chown, Timestamp.
func (f *Files) Symlink(pointsTo, path string, options ...Option) *Files {
	wanted := chosen(options)
	f.raw.Symlink(pointsTo, path, wanted.owner, wanted.timestamp)
	return f
}

// Rm removes a file or tree; with wildcards, and no error where nothing is, but for Exact.
func (f *Files) Rm(path string, options ...Option) *Files {
	lenient := !chosen(options).exact
	f.raw.Rm(path, lenient, lenient)
	return f
}

// Apply puts them into the graph.
func (f *Files) Apply(options ...Option) (State, error) { return state(f.raw.Apply(metadata(options))) }

// Scratch is the empty tree.
func Scratch() State { return State{llb.Scratch()} }

// Source is any source by its identifier and attributes (see `llb.source` in the WIT package). platform may be nil.
func Source(identifier string, attributes []Pair, platform *Platform, options ...Option) (State, error) {
	raw := make([]types.Tuple2[string, string], len(attributes))
	for i, pair := range attributes {
		raw[i] = types.Tuple2[string, string]{F0: pair.Name, F1: pair.Value}
	}
	wanted := types.None[Platform]()
	if platform != nil {
		wanted = types.Some(*platform)
	}
	return state(llb.Source(identifier, raw, wanted, metadata(options)))
}

// Local is a directory that the client lends: `context` is the build context. paths: only these are wanted.
func Local(name string, paths ...string) (State, error) {
	attributes := []Pair{{"local.sharedkeyhint", name}}
	if len(paths) > 0 {
		var list bytes.Buffer
		encoder := json.NewEncoder(&list)
		encoder.SetEscapeHTML(false)
		if err := encoder.Encode(paths); err != nil {
			return State{}, err
		}
		attributes = append(attributes, Pair{"local.followpaths", strings.TrimSpace(list.String())})
	}
	return Source("local://"+name, attributes, nil, Name("[internal] load "+name))
}

// Git is a git checkout: of remote the branch, tag or commit ref (empty: the default branch), of that the directory subdir.
func Git(remote, ref, subdir string) (State, error) {
	scheme, place, found := strings.Cut(remote, "://")
	if !found {
		scheme, place = "", remote
	}
	identifier := "git://" + place[strings.LastIndexByte(place, '@')+1:]
	if ref != "" || subdir != "" {
		identifier += "#" + ref
	}
	if subdir != "" {
		identifier += ":" + subdir
	}
	attributes := []Pair{
		{"git.fullurl", remote},
		{"git.authheadersecret", "GIT_AUTH_HEADER"},
		{"git.authtokensecret", "GIT_AUTH_TOKEN"},
	}
	if scheme == "ssh" {
		attributes = append(attributes, Pair{"git.mountsshsock", "default"})
	}
	return Source(identifier, attributes, nil, Name("git "+remote+" "+ref))
}

// HTTP is the file at a URL, as a tree of one file. Without a checksum (`sha256:…`) the server is asked whether it has changed.
func HTTP(url, filename, checksum string) (State, error) {
	attributes := []Pair{{"http.filename", filename}}
	if checksum != "" {
		attributes = append(attributes, Pair{"http.checksum", checksum})
	}
	return Source(url, attributes, nil, Name(url))
}

// Merge lays trees over one another, the last on top.
func Merge(trees []State, options ...Option) (State, error) {
	raw := make([]*llb.State, len(trees))
	for i, tree := range trees {
		raw[i] = tree.raw
	}
	return state(llb.Merge(raw, metadata(options)))
}

// Diff is what upper adds to, changes in and removes from lower.
func Diff(lower, upper State, options ...Option) (State, error) {
	return state(llb.Diff(lower.raw, upper.raw, metadata(options)))
}

// PendingTree is a tree on its way.
type PendingTree struct {
	raw *rhost_frontend_solve.PendingTree
}

// Tree is a tree that exists, to be read.
type Tree struct{ raw *rhost_frontend_solve.Tree }

// Solve starts to run what leads to a tree, while the frontend still works.
func (s State) Solve() *PendingTree { return &PendingTree{rhost_frontend_solve.Start(s.raw)} }

// Ready says whether Wait would return at once.
func (p *PendingTree) Ready() bool { return p.raw.Ready() }

// Wait waits for it.
func (p *PendingTree) Wait() (*Tree, error) {
	raw, err := answer(p.raw.Wait())
	return &Tree{raw}, err
}

// Read is the bytes of a file.
func (t *Tree) Read(path string) ([]byte, error) { return t.read(path, types.None[wire.ByteRange]()) }

// ReadRange is length bytes of a file from offset, or fewer where it ends.
func (t *Tree) ReadRange(path string, offset, length uint64) ([]byte, error) {
	return t.read(path, types.Some(wire.ByteRange{Offset: offset, Length: length}))
}

func (t *Tree) read(path string, slice types.Option[wire.ByteRange]) ([]byte, error) {
	data, err := answer(t.raw.ReadFile(path, slice))
	data = append([]byte(nil), data...)
	runtime.Unpin()
	return data, err
}

// ReadDir is the entries of a directory, sorted by name.
func (t *Tree) ReadDir(path string) ([]FileStat, error) {
	return answer(t.raw.ReadDir(path, types.None[string]()))
}

// ReadDirMatching is those whose name matches a pattern.
func (t *Tree) ReadDirMatching(path, pattern string) ([]FileStat, error) {
	return answer(t.raw.ReadDir(path, types.Some(pattern)))
}

// Stat is facts on one path.
func (t *Tree) Stat(path string) (FileStat, error) { return answer(t.raw.Stat(path)) }
