module go-hello

go 1.24

require github.com/rhost/rhost/sdk/go v0.0.0

replace github.com/rhost/rhost/sdk/go => ./sdk
