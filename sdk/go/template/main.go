// hello-lang: a build language. FROM, RUN, COPY and CMD are what you think; HELLO is new.
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
		base, err := buildFor(file, platform)
		if err != nil {
			return nil, err
		}
		for _, label := range invocation.Labels() {
			base.Config.SetLabel(label.Name, label.Value)
		}
		outcome.Add(platform, base)
	}
	return outcome, nil
}

// buildFor goes through the lines for one platform.
func buildFor(file *rhost.BuildFile, platform rhost.Platform) (*rhost.Base, error) {
	base := rhost.ScratchBase(platform)
	for _, line := range file.Lines() {
		word, rest, _ := strings.Cut(line.Text, " ")
		// What progress shows, and where errors point.
		name, at := rhost.Name(line.Text), file.At(line.Number)
		var err error
		switch word {
		case "FROM":
			base, err = rhost.Resolve(rest, platform).Wait()
		case "HELLO":
			err = base.Apply(base.State.Files().Mkfile("/hello.txt", 0o644, "hello, "+rest+"\n"), name, at)
		case "RUN":
			err = base.Shell(rest, name, at)
		case "COPY":
			from, to, found := strings.Cut(rest, " ")
			if !found {
				return nil, file.Error(line.Number, "COPY wants two paths", "COPY FROM TO")
			}
			var context rhost.State
			if context, err = rhost.Local("context"); err == nil {
				err = base.Apply(base.State.Files().Copy(context, from, to), name, at)
			}
		case "CMD":
			base.Config.SetCmd("/bin/sh", "-c", rest)
		default:
			return nil, file.Error(line.Number, "there is no instruction `"+word+"`", "these are: FROM, HELLO, RUN, COPY, CMD")
		}
		if err != nil {
			return nil, err
		}
	}
	return base, nil
}
