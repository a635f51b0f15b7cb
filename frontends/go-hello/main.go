// go-hello: an image that greets. An example of a frontend in Go.
//
//	# syntax=registry.example/go-hello:1
//	from docker.io/library/busybox
//	greet world
//	greet Welt in german
//	run cat /greetings/*
package main

import (
	"fmt"
	"strings"

	rhost "github.com/rhost/rhost/sdk/go"
)

var greetings = map[string]string{"english": "hello", "french": "bonjour", "german": "hallo", "italian": "ciao", "spanish": "hola"}

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

func buildFor(file *rhost.BuildFile, platform rhost.Platform) (*rhost.Base, error) {
	base := rhost.ScratchBase(platform)
	var script strings.Builder
	script.WriteString("#!/bin/sh\n")
	for _, line := range file.Lines() {
		verb, rest, _ := strings.Cut(line.Text, " ")
		name, at := rhost.Name(line.Text), file.At(line.Number)
		var err error
		switch verb {
		case "from":
			base, err = rhost.Resolve(rest, platform).Wait()
		case "greet":
			who, language, found := strings.Cut(rest, " in ")
			if !found {
				language = "english"
			}
			word, known := greetings[language]
			if !known {
				return nil, file.Error(line.Number, "nobody here speaks `"+language+"`", "english, french, german, italian, spanish")
			}
			text := fmt.Sprintf("%s, %s\n", word, who)
			path := "/greetings/" + strings.ReplaceAll(who, "/", "-")
			fmt.Fprintf(&script, "cat '%s'\n", strings.ReplaceAll(path, "'", `'\''`))
			err = base.Apply(base.State.Files().Mkdir("/greetings", 0o755).Mkfile(path, 0o644, text), name, at)
		case "run":
			err = base.Shell(rest, name, at)
		default:
			return nil, file.Error(line.Number, "there is no verb `"+verb+"`", "from, greet, run")
		}
		if err != nil {
			return nil, err
		}
	}
	base.Config.SetCmd("/bin/greet")
	return base, base.Apply(base.State.Files().Mkdir("/bin", 0o755).Mkfile("/bin/greet", 0o755, script.String()), rhost.Name("write /bin/greet"))
}
