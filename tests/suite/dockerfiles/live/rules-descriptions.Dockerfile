# check=experimental=InvalidDefinitionDescription
# meets InvalidDefinitionDescription

# what this is
ARG VERSION=1
# VERSION says which
ARG VERSION=2
# both of them
ARG ONE TWO=2

# unrelated

FROM busybox AS base
# base is where it starts
FROM base AS final
# not about it
FROM final AS last
