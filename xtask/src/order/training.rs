//! The builds that are watched: first one that finds everything cached, as that is where a start counts most, then others of every common kind.
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use rhost_kit::{Registry, TestHost};

use super::trace::Trace;

const STEPS: &str = "FROM busybox\nRUN echo 1 > /one\nRUN echo 2 > /two\nCOPY tree /tree\nRUN echo 3 > /three\n";

const STAGES: &str = "\
# syntax=docker/dockerfile:1
ARG VERSION=1.2
FROM busybox AS build
ARG VERSION
WORKDIR /src
COPY --chown=1:1 tree ./
ENV PATH=/bin:$PATH LEVEL=${VERSION:-3}
RUN --mount=type=cache,target=/cache --mount=type=secret,id=token cat *.txt > /cache/all && cp /cache/all /all
RUN <<EOF
mkdir /made
echo $VERSION > /made/version
EOF
FROM busybox AS other
ADD --chmod=644 archive.tar /unpacked/
RUN --network=none ls -R /unpacked > /list
FROM scratch
LABEL version=$VERSION
COPY --from=build /all /made/ /out/
COPY --link --from=other /list /out/list
USER 1000
EXPOSE 8080/tcp
ENTRYPOINT [\"/out/all\"]
";

/// Runs them all.
///
/// # Errors
/// One fails.
pub fn run(binary: &Path, trace: &mut Trace) -> Result<()> {
    let registry = Registry::start()?;
    registry.push(&rhost_kit::busybox()?, "library/busybox:latest")?;
    let host = || -> Result<TestHost> {
        let host = TestHost::with_binary(binary.to_owned())?;
        host.mirror_docker_io(registry.address())?;
        host.write("steps/Dockerfile", STEPS)?;
        host.write("stages/Dockerfile", STAGES)?;
        host.write("stages/.dockerignore", "*.md\n!README.md\n")?;
        host.write("token", "secret")?;
        for context in ["steps", "stages"] {
            for file in 0..40 {
                let words = (0..file * 40).map(|word| format!("{} ", word * file)).collect::<String>();
                host.write(&format!("{context}/tree/{}/{file}.txt", file % 3), words)?;
            }
            host.write(&format!("{context}/tree/a.txt"), "a")?;
        }
        let packed = std::process::Command::new("tar")
            .args(["-cf", "stages/archive.tar", "-C", "stages", "tree"])
            .current_dir(host.work())
            .status()
            .context("starting tar")?;
        ensure!(packed.success(), "tar: {packed}");
        Ok(host)
    };
    let warm = host()?;
    let build = ["build", "--progress", "plain", "-o", "type=cacheonly", "steps"];
    warm.run(build)?.success();
    trace.run(&warm.command(build))?;
    let cold = host()?;
    trace.run(&cold.command(["build", "--progress", "plain", "-o", "type=oci,dest=steps.tar", "steps"]))?;
    let secret = ["build", "--secret", "id=token,src=token"];
    for rest in [
        ["-t", "stages", "stages"].as_slice(),
        &["-t", "stages", "stages"],
        &["-o", "type=docker,dest=stages.tar", "stages"],
        &["-o", "type=oci,compression=zstd,dest=stages-zstd.tar", "stages"],
        &["-o", "files", "--target", "build", "stages"],
    ] {
        trace.run(&cold.command(secret.iter().chain(rest)))?;
    }
    let name = registry.name("trained");
    trace.run(&cold.command(["build", "--push", "-t", &name, "steps"]))?;
    cold.write("steps/tree/a.txt", "b")?;
    trace.run(&cold.command(["build", "-t", "steps", "steps"]))
}
