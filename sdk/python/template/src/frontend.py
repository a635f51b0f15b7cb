"""hello-lang: a build language. FROM, RUN, COPY and CMD are what you think; HELLO is new."""
import rhost_sdk as rhost


def build(invocation):
    file = rhost.BuildFile.read(invocation)
    outcome = rhost.Outcome()
    for platform in invocation.platforms():
        base = build_for(file, platform)
        for name, value in invocation.labels():
            base.config.set_label(name, value)
        outcome.add(platform, base)
    return outcome


def build_for(file, platform):
    """Goes through the lines for one platform."""
    base = rhost.Base.scratch(platform)
    for number, line in file.lines():
        word, _, rest = line.partition(" ")
        # What progress shows, and where errors point.
        here = {"name": line, "at": file.at(number)}
        match word:
            case "FROM":
                base = rhost.Base.resolve(rest, platform).wait()
            case "HELLO":
                base.mkfile("/hello.txt", f"hello, {rest}\n", **here)
            case "RUN":
                base.run(rest, **here)
            case "COPY":
                source, _, target = rest.partition(" ")
                if not target:
                    raise file.error(number, "COPY wants two paths", "COPY FROM TO")
                base.copy(rhost.local("context"), source, target, **here)
            case "CMD":
                base.config.run["Cmd"] = ["/bin/sh", "-c", rest]
            case _:
                raise file.error(number, f"there is no instruction `{word}`", "these are: FROM, HELLO, RUN, COPY, CMD")
    return base


WitWorld = rhost.frontend(build)
