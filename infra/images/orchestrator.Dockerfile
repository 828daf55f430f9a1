# The orchestrator: Node with the compiled packages. Build from the checkout's root:
#   docker build -f infra/images/orchestrator.Dockerfile -t patchbay-orchestrator .
FROM node:22-bookworm-slim AS build
WORKDIR /src
RUN npm install --global pnpm@12.21.0
COPY pnpm-lock.yaml pnpm-workspace.yaml package.json ./
COPY tsconfig.base.json tsconfig.json ./
COPY packages packages
COPY bench/package.json bench/package.json
COPY examples/package.json examples/package.json
COPY tests/package.json tests/package.json
RUN pnpm install --frozen-lockfile \
    && node_modules/.bin/tsc -b packages/orchestrator \
    && pnpm --filter @patchbay/orchestrator deploy --prod --legacy /out

FROM node:22-bookworm-slim
ENV NODE_ENV=production \
    PATCHBAY_HOME=/var/lib/patchbay \
    PATCHBAY_HTTP_HOST=0.0.0.0 \
    PATCHBAY_HTTP_PORT=8787
RUN useradd --create-home --uid 10001 patchbay \
    && install --directory --owner patchbay /var/lib/patchbay
WORKDIR /opt/patchbay
COPY --from=build /out .
USER patchbay
EXPOSE 8787
VOLUME /var/lib/patchbay
CMD ["node", "--max-semi-space-size=32", "dist/main.js"]
