"""The OCI image config, with short forms for the usual fields. What it does not know it keeps."""
import json


class ImageConfig:
    """`json` is the whole config as a dict."""

    def __init__(self, value):
        self.json = value

    @classmethod
    def empty(cls, platform):
        value = {"architecture": platform.architecture, "os": platform.os}
        if platform.variant:
            value["variant"] = platform.variant
        return cls(value)

    @property
    def run(self):
        """The part about running: Env, Cmd, Entrypoint, WorkingDir, User, Labels, …"""
        if not isinstance(self.json.get("config"), dict):
            self.json["config"] = {}
        return self.json["config"]

    @property
    def env(self):
        """The environment, as a list of (name, value)."""
        return [tuple(text.split("=", 1)) for text in self.run.get("Env") or [] if "=" in text]

    def set_env(self, name, value):
        """Sets a variable, in the place it had."""
        env = dict(self.env)
        env[name] = value
        self.run["Env"] = [f"{key}={text}" for key, text in env.items()]

    def set_label(self, name, value):
        self.run["Labels"] = {**(self.run.get("Labels") or {}), name: value}

    @property
    def workdir(self):
        return self.run.get("WorkingDir") or "/"

    @property
    def user(self):
        return self.run.get("User") or ""

    def bytes(self):
        return json.dumps(self.json, ensure_ascii=False, separators=(",", ":")).encode()
