// The OCI image config, with short forms for the usual fields. What it does not know it keeps.
export class ImageConfig {
  /** `json` is the whole config as an object; `ImageConfig.empty(platform)` makes one. */
  constructor(json) {
    this.json = json;
  }

  static empty({ os, architecture, variant }) {
    return new ImageConfig(variant ? { architecture, os, variant } : { architecture, os });
  }

  /** The part about running: Env, Cmd, Entrypoint, WorkingDir, User, Labels, … */
  get run() {
    return (this.json.config ??= {});
  }

  /** The environment, as a list of `[name, value]`. */
  get env() {
    const list = Array.isArray(this.run.Env) ? this.run.Env : [];
    return list.filter((text) => text.includes('=')).map((text) => [text.slice(0, text.indexOf('=')), text.slice(text.indexOf('=') + 1)]);
  }

  /** Sets a variable, in the place it had. */
  setEnv(name, value) {
    const env = this.env;
    const known = env.find(([other]) => other === name);
    if (known) known[1] = value;
    else env.push([name, value]);
    this.run.Env = env.map(([key, text]) => `${key}=${text}`);
  }

  setLabel(name, value) {
    this.run.Labels = { ...this.run.Labels, [name]: value };
  }

  get workdir() {
    return this.run.WorkingDir || '/';
  }

  get user() {
    return this.run.User || '';
  }

  bytes() {
    return new TextEncoder().encode(JSON.stringify(this.json));
  }
}
