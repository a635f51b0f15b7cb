package rhost

import (
	"strings"

	"github.com/rhost/rhost/sdk/go/internal/types"
	llb "github.com/rhost/rhost/sdk/go/internal/wit/rhost_frontend_llb"
)

type lent struct {
	optional bool
	target   string
	access   llb.FileAccess
}

// Lent is how a secret or an agent is lent to a command.
type Lent func(*lent)

// Optional lets it be missing: then the command runs without.
func Optional() Lent { return func(l *lent) { l.optional = true } }

// OwnedBy sets who owns the file.
func OwnedBy(uid, gid uint32) Lent { return func(l *lent) { l.access.Uid, l.access.Gid = uid, gid } }

// Bits sets the file's permission bits.
func Bits(mode uint32) Lent { return func(l *lent) { l.access.Mode = mode } }

// Socket is where an agent's socket is mounted; SSH_AUTH_SOCK says it.
func Socket(target string) Lent { return func(l *lent) { l.target = target } }

func lend(mode uint32, how []Lent) lent {
	made := lent{access: llb.FileAccess{Mode: mode}}
	for _, change := range how {
		change(&made)
	}
	return made
}

type cacheOptions struct {
	from     State
	given    bool
	path     string
	readOnly bool
}

// CacheOption is one of a cache's options.
type CacheOption func(*cacheOptions)

// From is what a cache holds at first: path of a tree (empty: all of it).
func From(tree State, path string) CacheOption {
	return func(c *cacheOptions) { c.from, c.given, c.path = tree, true, path }
}

// ReadOnlyCache makes writes to a cache fail.
func ReadOnlyCache() CacheOption { return func(c *cacheOptions) { c.readOnly = true } }

// Hostname sets the name of a command's machine.
func Hostname(name string) Option { return exec(func(e *llb.Exec) { e.Hostname(name) }) }

// ChmodSymbols sets the permissions of what is copied by symbols, as in `u=rwX,go=rX`.
func ChmodSymbols(text string) Option {
	return copying(func(a *llb.CopyAction) { a.ModeSymbols(text) })
}

// RequiredPaths must be there to be copied.
func RequiredPaths(paths ...string) Option {
	return copying(func(a *llb.CopyAction) { a.RequiredPaths(paths) })
}

// Timestamp sets when copied or made files were changed, in nanoseconds since 1970.
func Timestamp(nanoseconds int64) Option {
	return Option{copy: func(o *copyOptions) { o.timestamp = types.Some(nanoseconds) }}
}

// Alone makes Mkdir want the directory above it to be there.
func Alone() Option { return Option{copy: func(o *copyOptions) { o.alone = true }} }

// Chown sets who owns what is copied or made: `user`, `user:group`, by names or numbers.
func Chown(owner string) Option {
	user, group, _ := strings.Cut(owner, ":")
	return Option{copy: func(o *copyOptions) {
		o.owner = types.Some(llb.Owner{User: identity(user), Group: identity(group)})
	}}
}

func chosen(options []Option) copyOptions {
	made := copyOptions{owner: types.None[llb.Owner](), timestamp: types.None[int64]()}
	for _, option := range options {
		if option.copy != nil {
			option.copy(&made)
		}
	}
	return made
}
