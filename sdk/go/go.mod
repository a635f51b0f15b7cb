module github.com/rhost/rhost/sdk/go

go 1.24
