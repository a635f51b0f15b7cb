// The four samples in Go. The first word of the build file chooses one; docs/frontends/cookbook.md quotes the pieces between the marks.
package main

import (
	"strings"

	rhost "github.com/rhost/rhost/sdk/go"
)

func init() { rhost.Frontend(build) }

func main() {}

func build(invocation *rhost.Invocation) (*rhost.Outcome, error) {
	file, err := rhost.ReadBuildFile(invocation)
	if err != nil {
		return nil, err
	}
	outcome := rhost.NewOutcome()
	for _, platform := range invocation.Platforms() {
		lines := file.Lines()
		if len(lines) == 0 {
			return nil, rhost.Errorf("the build file is empty")
		}
		word, rest, _ := strings.Cut(lines[0].Text, " ")
		samples := map[string]func(rhost.Platform, string) (*rhost.Base, error){
			"hello": hello, "multi-stage": multiStage, "branch": branch, "solve": solveThenRead, "sources": sources, "options": options, "panic": panics,
		}
		sample := samples[word]
		if sample == nil {
			return nil, file.Error(lines[0].Number, "there is no sample `"+word+"`", "hello, multi-stage, branch, solve, sources, options")
		}
		base, err := sample(platform, rest)
		if err != nil {
			return nil, err
		}
		outcome.Add(platform, base)
	}
	return outcome, nil
}

func panics(rhost.Platform, string) (*rhost.Base, error) {
	panic("as it was asked to")
}

// [hello]
func hello(platform rhost.Platform, who string) (*rhost.Base, error) {
	base, err := rhost.Resolve("docker.io/library/busybox", platform).Wait()
	if err != nil {
		return nil, err
	}
	base.Config.SetCmd("cat", "/hello.txt")
	base.Config.SetEnv("GREETED", who)
	base.Config.SetLabel("greeting", "<hello & welcome>")
	return base, base.Apply(base.State.Files().Mkfile("/hello.txt", 0o644, "hello, "+who+"\n"), rhost.Name("say hello"))
}

// [/hello]

// [multi-stage]
func multiStage(platform rhost.Platform, _ string) (*rhost.Base, error) {
	// Both are asked for before either is waited for.
	pendingBuilder := rhost.Resolve("docker.io/library/debian:12", platform)
	pendingRuntime := rhost.Resolve("docker.io/library/busybox", platform)
	builder, err := pendingBuilder.Wait()
	if err != nil {
		return nil, err
	}
	source, err := rhost.Local("context", "Makefile", "src")
	if err != nil {
		return nil, err
	}
	ran, err := builder.Run([]string{"/bin/sh", "-c", "make -C /src DESTDIR=/out"},
		rhost.Name("make"),
		rhost.Mount("/src", source, "", rhost.Discard),
		rhost.Mount("/out", rhost.Scratch(), "", rhost.Keep),
		rhost.Cache("/root/.cache", "make", rhost.Locked),
		rhost.Tmpfs("/tmp", 64<<20),
		rhost.Secret("/run/secrets/token", "token"),
		rhost.SecretEnv("NPM_TOKEN", "npm"),
		rhost.SSH("default"))
	if err != nil {
		return nil, err
	}
	made, err := ran.Output("/out")
	if err != nil {
		return nil, err
	}
	base, err := pendingRuntime.Wait()
	if err != nil {
		return nil, err
	}
	base.Config.Run().Set("Entrypoint", []string{"/usr/local/bin/app"})
	return base, base.Apply(base.State.Files().Copy(made, "/bin", "/usr/local/bin/"), rhost.Name("copy what was made"))
}

// [/multi-stage]

// [branch]
func branch(platform rhost.Platform, _ string) (*rhost.Base, error) {
	var image, command string
	if _, found, err := rhost.ReadContext("package.json"); err != nil {
		return nil, err
	} else if found {
		image, command = "docker.io/library/node:22", "npm ci"
	} else if _, found, err := rhost.ReadContext("go.mod"); err != nil {
		return nil, err
	} else if found {
		image, command = "docker.io/library/golang:1", "go build ./..."
	} else {
		return nil, rhost.Errorf("the context has neither package.json nor go.mod: nothing tells how to build it")
	}
	base, err := rhost.Resolve(image, platform).Wait()
	if err != nil {
		return nil, err
	}
	base.Config.Run().Set("WorkingDir", "/src")
	context, err := rhost.Local("context")
	if err != nil {
		return nil, err
	}
	if err := base.Apply(base.State.Files().Copy(context, "/", "/src/"), rhost.Name("copy the sources")); err != nil {
		return nil, err
	}
	return base, base.Shell(command, rhost.Name(command))
}

// [/branch]

// [solve]
func solveThenRead(platform rhost.Platform, _ string) (*rhost.Base, error) {
	base, err := rhost.Resolve("docker.io/library/busybox", platform).Wait()
	if err != nil {
		return nil, err
	}
	before := base.State
	if err := base.Shell("ls /bin > /list", rhost.Name("list")); err != nil {
		return nil, err
	}
	tree, err := base.State.Solve().Wait()
	if err != nil {
		return nil, err
	}
	list, err := tree.Read("/list")
	if err != nil {
		return nil, err
	}
	base.State = before
	for _, name := range strings.Fields(string(list)) {
		items := base.State.Files().Mkdir("/items", 0o755).Symlink("/bin/"+name, "/items/"+name)
		if err := base.Apply(items, rhost.Name(name)); err != nil {
			return nil, err
		}
	}
	return base, nil
}

// [/solve]

// [sources]
func sources(platform rhost.Platform, _ string) (*rhost.Base, error) {
	base := rhost.ScratchBase(platform)
	repository, err := rhost.Git("https://example.com/team/app.git", "main", "docs")
	if err != nil {
		return nil, err
	}
	archive, err := rhost.HTTP("https://example.com/a<b>&c.txt", "c.txt", "sha256:"+strings.Repeat("0", 64))
	if err != nil {
		return nil, err
	}
	cleaned, err := repository.Files().Rm("/*.tmp").Apply(rhost.Name("clean"))
	if err != nil {
		return nil, err
	}
	changes, err := rhost.Diff(repository, cleaned, rhost.Name("what cleaning did"))
	if err != nil {
		return nil, err
	}
	together, err := rhost.Merge([]rhost.State{archive, changes}, rhost.Name("together"))
	if err != nil {
		return nil, err
	}
	options := []rhost.Option{rhost.On(platform), rhost.User("nobody"), rhost.WithNetwork(rhost.NetworkNone), rhost.Name("run it")}
	ran, err := together.Run([]string{"/c.txt"}, options...)
	base.State = ran.Root
	return base, err
}

// [/sources]

// options has what steps may say beyond the recipes.
func options(platform rhost.Platform, _ string) (*rhost.Base, error) {
	base := rhost.ScratchBase(platform)
	context, err := rhost.Local("context")
	if err != nil {
		return nil, err
	}
	owner, second := rhost.Chown("app:7"), rhost.Timestamp(1_000_000_000)
	tree, err := base.State.Files().
		Mkdir("/srv", 0o750, rhost.Chown("7"), rhost.Alone()).
		Mkfile("/srv/a", 0o600, "a", owner, second).
		Symlink("a", "/srv/b", owner, second).
		Copy(context, "x", "/srv/", rhost.Chown("app:app"), rhost.ChmodSymbols("u=rwX,go=rX"),
			rhost.Include("*.a"), rhost.Exclude("*.tmp"), rhost.RequiredPaths("x")).
		Copy(context, "y.tar", "/srv/y", rhost.Exact(), rhost.Unpack(), rhost.Chmod(0o644), rhost.Timestamp(5)).
		Rm("/srv/c", rhost.Exact()).
		Apply(rhost.Name("own"))
	if err != nil {
		return nil, err
	}
	ran, err := tree.Run([]string{"/srv/a"}, rhost.On(platform), rhost.Name("run it"),
		rhost.WithNetwork(rhost.NetworkHost), rhost.Insecure(), rhost.Hostname("here"), rhost.Host("db", "10.0.0.1"),
		rhost.Ulimit("nofile", 1024, 2048), rhost.ValidExitCodes(0, 3), rhost.ReadOnlyRoot(),
		rhost.Mount("/out", rhost.Scratch(), "", rhost.Keep),
		rhost.Secret("/token", "token", rhost.Optional(), rhost.OwnedBy(1, 2), rhost.Bits(0o440)),
		rhost.SecretEnv("NPM_TOKEN", "npm", rhost.Optional()),
		rhost.SSH("default", rhost.Socket("/agent"), rhost.Optional()),
		rhost.Cache("/cache", "c", rhost.Private, rhost.From(tree, "/srv"), rhost.ReadOnlyCache()))
	if err != nil {
		return nil, err
	}
	// Of the root, which is read-only, nothing comes.
	base.State, err = ran.Output("/out")
	return base, err
}
