package rhost

import (
	"bytes"
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

// Wait waits, and puts the image, pinned by its digest, into the graph.
func (p *PendingBase) Wait() (*Base, error) {
	image, err := answer(p.raw.Wait())
	if err != nil {
		return nil, err
	}
	name, _, _ := strings.Cut(image.Reference, "@")
	reference := name + "@" + image.Digest
	config := &ImageConfig{}
	if err := json.Unmarshal(image.Config, &config.JSONFields); err != nil || config.JSONFields == nil {
		return nil, Errorf("the configuration of %s is no JSON object", reference)
	}
	runtime.Unpin()
	attributes := []Pair{{"image.resolvemode", "default"}}
	state, err := Source("docker-image://"+reference, attributes, &p.platform, Name("FROM "+reference))
	return &Base{state, config, p.platform, reference}, err
}

// ScratchBase is the empty base.
func ScratchBase(platform Platform) *Base {
	config := &ImageConfig{map[string]any{"architecture": platform.Architecture, "os": platform.Os}}
	if platform.Variant != "" {
		config.JSONFields["variant"] = platform.Variant
	}
	return &Base{Scratch(), config, platform, "scratch"}
}

// Run runs a command on it as its config says: variables, working directory, user.
func (b *Base) Run(args []string, options ...Option) (Ran, error) {
	all := []Option{On(b.Platform), Dir(b.Config.Workdir())}
	for _, pair := range b.Config.Env() {
		all = append(all, Env(pair.Name, pair.Value))
	}
	if user, _ := b.Config.Run()["User"].(string); user != "" {
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

// ImageConfig is the OCI image config, with short forms for the usual fields. What it does not know it keeps.
type ImageConfig struct {
	// JSONFields is the whole config.
	JSONFields map[string]any
}

// Run is the part about running: Env, Cmd, Entrypoint, WorkingDir, User, Labels, …
func (c *ImageConfig) Run() map[string]any {
	run, ok := c.JSONFields["config"].(map[string]any)
	if !ok {
		run = map[string]any{}
		c.JSONFields["config"] = run
	}
	return run
}

// Env is the environment.
func (c *ImageConfig) Env() []Pair {
	var env []Pair
	list, _ := c.Run()["Env"].([]any)
	for _, entry := range list {
		text, _ := entry.(string)
		if name, value, found := strings.Cut(text, "="); found {
			env = append(env, Pair{name, value})
		}
	}
	return env
}

// SetEnv sets a variable, in the place it had.
func (c *ImageConfig) SetEnv(name, value string) {
	list, _ := c.Run()["Env"].([]any)
	for i, entry := range list {
		if text, _ := entry.(string); strings.HasPrefix(text, name+"=") {
			list[i] = name + "=" + value
			return
		}
	}
	c.Run()["Env"] = append(list, name+"="+value)
}

// SetLabel adds a label.
func (c *ImageConfig) SetLabel(name, value string) {
	labels, ok := c.Run()["Labels"].(map[string]any)
	if !ok {
		labels = map[string]any{}
		c.Run()["Labels"] = labels
	}
	labels[name] = value
}

// Workdir is the working directory; `/` if none is set.
func (c *ImageConfig) Workdir() string {
	if path, _ := c.Run()["WorkingDir"].(string); path != "" {
		return path
	}
	return "/"
}

// JSON is what the exporter takes.
func (c *ImageConfig) JSON() []byte {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	// A config that came as JSON, and what Go programs put into it, can be written.
	if err := encoder.Encode(c.JSONFields); err != nil {
		panic(err)
	}
	return bytes.TrimSpace(text.Bytes())
}
