package rhost

import (
	"encoding/json"
	"strings"

	"github.com/rhost/rhost/sdk/go/internal/runtime"
	"github.com/rhost/rhost/sdk/go/internal/types"
	"github.com/rhost/rhost/sdk/go/internal/wit/rhost_frontend_images"
)

// Base is a tree that grows, with what its image says about running it.
type Base struct {
	// State is its files so far.
	State State
	// Config is to be changed, and handed to Outcome.Add.
	Config   *ImageConfig
	Platform Platform
	// Reference is with its digest: `docker.io/library/debian:12@sha256:…`
	Reference string
}

// PendingBase is a base on its way.
type PendingBase struct {
	raw      *rhost_frontend_images.PendingImage
	platform Platform
}

// Resolve starts to resolve an image. Start all of them before the first Wait.
func Resolve(reference string, platform Platform) *PendingBase {
	raw := rhost_frontend_images.Resolve(
		reference, types.Some(platform), rhost_frontend_images.ResolveModeDefault, types.None[string](),
		option("[internal] load metadata for "+reference),
	)
	return &PendingBase{raw, platform}
}

// Ready says whether Wait would return at once.
func (p *PendingBase) Ready() bool { return p.raw.Ready() }

// Wait waits, and puts the image, pinned by its digest, into the graph.
func (p *PendingBase) Wait() (*Base, error) {
	image, err := answer(p.raw.Wait())
	if err != nil {
		return nil, err
	}
	name, _, _ := strings.Cut(image.Reference, "@")
	reference := name + "@" + image.Digest
	config := &ImageConfig{}
	if err := json.Unmarshal(image.Config, &config.Object); err != nil {
		return nil, Errorf("the configuration of %s is no JSON object", reference)
	}
	runtime.Unpin()
	attributes := []Pair{{"image.resolvemode", "default"}}
	state, err := Source("docker-image://"+reference, attributes, &p.platform, Name("FROM "+reference))
	return &Base{state, config, p.platform, reference}, err
}

// ScratchBase is the empty base.
func ScratchBase(platform Platform) *Base {
	config := &ImageConfig{}
	config.Set("architecture", platform.Architecture)
	config.Set("os", platform.Os)
	if platform.Variant != "" {
		config.Set("variant", platform.Variant)
	}
	return &Base{Scratch(), config, platform, "scratch"}
}

// Run runs a command on it as its config says: variables, working directory, user.
func (b *Base) Run(args []string, options ...Option) (Ran, error) {
	all := []Option{On(b.Platform), Dir(b.Config.Workdir())}
	for _, pair := range b.Config.Env() {
		all = append(all, Env(pair.Name, pair.Value))
	}
	if user, _ := b.Config.Run().Get("User").(string); user != "" {
		all = append(all, User(user))
	}
	ran, err := b.State.Run(args, append(all, options...)...)
	if err == nil {
		b.State = ran.Root
	}
	return ran, err
}

// Shell runs a line for the shell.
func (b *Base) Shell(line string, options ...Option) error {
	_, err := b.Run([]string{"/bin/sh", "-c", line}, options...)
	return err
}

// Apply applies changes of files that were begun on its state.
func (b *Base) Apply(files *Files, options ...Option) error {
	state, err := files.Apply(options...)
	if err == nil {
		b.State = state
	}
	return err
}
