package rhost

import (
	"bytes"
	"encoding/json"
	"strings"
)

// Object is a JSON object that keeps the order of its keys, so that equal steps give equal bytes in every language.
type Object struct {
	keys   []string
	values map[string]any
}

// Get is the value of a key: nil, bool, json.Number, string, []any, *Object, or what was set.
func (o *Object) Get(key string) any { return o.values[key] }

// Set sets the value of a key, in the place it had.
func (o *Object) Set(key string, value any) {
	if o.values == nil {
		o.values = map[string]any{}
	}
	if _, known := o.values[key]; !known {
		o.keys = append(o.keys, key)
	}
	o.values[key] = value
}

// UnmarshalJSON reads one.
func (o *Object) UnmarshalJSON(data []byte) error {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	value, err := read(decoder)
	if err != nil {
		return err
	}
	object, ok := value.(*Object)
	if !ok {
		return Errorf("it is no JSON object")
	}
	*o = *object
	return nil
}

func read(decoder *json.Decoder) (any, error) {
	token, err := decoder.Token()
	if err != nil {
		return nil, err
	}
	switch token {
	case json.Delim('{'):
		object := &Object{}
		for decoder.More() {
			key, err := decoder.Token()
			if err != nil {
				return nil, err
			}
			value, err := read(decoder)
			if err != nil {
				return nil, err
			}
			object.Set(key.(string), value)
		}
		_, err := decoder.Token()
		return object, err
	case json.Delim('['):
		list := []any{}
		for decoder.More() {
			value, err := read(decoder)
			if err != nil {
				return nil, err
			}
			list = append(list, value)
		}
		_, err := decoder.Token()
		return list, err
	}
	return token, nil
}

// MarshalJSON writes it.
func (o *Object) MarshalJSON() ([]byte, error) {
	var text bytes.Buffer
	text.WriteByte('{')
	for i, key := range o.keys {
		if i > 0 {
			text.WriteByte(',')
		}
		for _, part := range []any{key, o.values[key]} {
			encoder := json.NewEncoder(&text)
			encoder.SetEscapeHTML(false)
			if err := encoder.Encode(part); err != nil {
				return nil, err
			}
			text.Truncate(text.Len() - 1)
			text.WriteByte(':')
		}
		text.Truncate(text.Len() - 1)
	}
	text.WriteByte('}')
	return text.Bytes(), nil
}

// ImageConfig is the OCI image config, with short forms for the usual fields. What it does not know it keeps.
type ImageConfig struct{ Object }

// Run is the part about running: Env, Cmd, Entrypoint, WorkingDir, User, Labels, …
func (c *ImageConfig) Run() *Object { return c.child(&c.Object, "config") }

func (c *ImageConfig) child(of *Object, key string) *Object {
	found, ok := of.Get(key).(*Object)
	if !ok {
		found = &Object{}
		of.Set(key, found)
	}
	return found
}

func (c *ImageConfig) text(key string) string {
	text, _ := c.Run().Get(key).(string)
	return text
}

// Env is the environment.
func (c *ImageConfig) Env() []Pair {
	var env []Pair
	list, _ := c.Run().Get("Env").([]any)
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
	list, _ := c.Run().Get("Env").([]any)
	for i, entry := range list {
		if text, _ := entry.(string); strings.HasPrefix(text, name+"=") {
			list[i] = name + "=" + value
			return
		}
	}
	c.Run().Set("Env", append(list, name+"="+value))
}

// SetLabel adds a label.
func (c *ImageConfig) SetLabel(name, value string) { c.child(c.Run(), "Labels").Set(name, value) }

// SetCmd sets what runs when nothing else is asked for.
func (c *ImageConfig) SetCmd(words ...string) { c.Run().Set("Cmd", words) }

// Workdir is the working directory; `/` if none is set.
func (c *ImageConfig) Workdir() string {
	if path := c.text("WorkingDir"); path != "" {
		return path
	}
	return "/"
}

// JSON is what the exporter takes.
func (c *ImageConfig) JSON() []byte {
	text, err := c.Object.MarshalJSON()
	if err != nil {
		// Something was set that is no JSON: a mistake of the frontend's.
		panic(err)
	}
	return text
}
