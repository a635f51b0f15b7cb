// Asks a BuildKit daemon's own Dockerfile frontend for the graph and the image configs of a build file, and writes them as JSON.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	gateway "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/pb"
	digest "github.com/opencontainers/go-digest"
	"github.com/tonistiigi/fsutil"
)

type def struct {
	Head     string                    `json:"head"`
	Ops      map[string]*pb.Op         `json:"ops"`
	Metadata map[string]*pb.OpMetadata `json:"metadata"`
	Source   *pb.Source                `json:"source"`
}

type answer struct {
	Options  map[string]string `json:"options"`
	Error    string            `json:"error,omitempty"`
	Metadata map[string]string `json:"metadata,omitempty"`
	Defs     map[string]*def   `json:"defs,omitempty"`
}

type image struct {
	Digest string `json:"digest"`
	Config string `json:"config"`
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func toDef(ctx context.Context, ref gateway.Reference) *def {
	if ref == nil {
		return nil
	}
	st, err := ref.ToState()
	must(err)
	d, err := st.Marshal(ctx)
	must(err)
	p := d.ToPB()
	out := &def{Ops: map[string]*pb.Op{}, Metadata: p.Metadata, Source: p.Source}
	for _, b := range p.Def {
		var op pb.Op
		must(op.Unmarshal(b))
		k := string(digest.FromBytes(b))
		out.Ops[k] = &op
		out.Head = k
	}
	return out
}

// usage: oracle ADDR images REF... | oracle ADDR FOLDER FILE [K=V]...
func main() {
	ctx := context.Background()
	c, err := client.New(ctx, os.Args[1])
	must(err)
	if os.Args[2] == "images" {
		out := map[string]map[string]image{}
		_, err = c.Build(ctx, client.SolveOpt{}, "", func(ctx context.Context, gw gateway.Client) (*gateway.Result, error) {
			for _, ref := range os.Args[3:] {
				out[ref] = map[string]image{}
				for _, ps := range []string{"linux/amd64", "linux/arm64"} {
					p := platforms.MustParse(ps)
					_, d, dt, err := gw.ResolveImageConfig(ctx, ref, sourceresolver.Opt{ImageOpt: &sourceresolver.ResolveImageOpt{Platform: &p}})
					if err != nil {
						continue
					}
					out[ref][ps] = image{string(d), string(dt)}
				}
			}
			return gateway.NewResult(), nil
		}, nil)
		must(err)
		enc := json.NewEncoder(os.Stdout)
		enc.SetIndent("", " ")
		must(enc.Encode(out))
		return
	}
	open := func(name string) fsutil.FS {
		dir, err := fsutil.NewFS(filepath.Join(os.Args[2], name))
		must(err)
		return dir
	}
	opts := map[string]string{"filename": os.Args[3]}
	mounts := map[string]fsutil.FS{"context": open("context"), "dockerfile": open(".")}
	for _, kv := range os.Args[4:] {
		k, v, _ := strings.Cut(kv, "=")
		if k == "@context" {
			mounts["context"] = open(v)
			continue
		}
		opts[k] = v
		if name, ok := strings.CutPrefix(v, "local:"); ok {
			mounts[name] = open("context-ignore")
		}
	}
	ans := answer{Options: opts}
	_, err = c.Build(ctx, client.SolveOpt{LocalMounts: mounts}, "", func(ctx context.Context, gw gateway.Client) (*gateway.Result, error) {
		session := gw.BuildOpts().SessionID
		res, err := gw.Solve(ctx, gateway.SolveRequest{Frontend: "dockerfile.v0", FrontendOpt: opts})
		if err != nil {
			ans.Error = strings.ReplaceAll(err.Error(), session, "SESSION")
			return gateway.NewResult(), nil
		}
		ans.Metadata = map[string]string{}
		for k, v := range res.Metadata {
			ans.Metadata[k] = string(v)
		}
		ans.Metadata["session"] = session
		ans.Defs = map[string]*def{}
		if res.Ref != nil {
			ans.Defs[""] = toDef(ctx, res.Ref)
		}
		for k, r := range res.Refs {
			ans.Defs[k] = toDef(ctx, r)
		}
		return gateway.NewResult(), nil
	}, nil)
	must(err)
	enc := json.NewEncoder(os.Stdout)
	enc.SetIndent("", " ")
	enc.SetEscapeHTML(false)
	must(enc.Encode(ans))
}
