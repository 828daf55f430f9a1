/** A list that comes in pages: awaited it is the first page, iterated it is every item. @module */

interface Page {
  readonly nextCursor?: string | undefined;
}

export class Paged<P extends Page, T> implements PromiseLike<P>, AsyncIterable<T> {
  /** @internal */
  constructor(
    private readonly fetchPage: (cursor: string | undefined) => Promise<P>,
    private readonly itemsOf: (page: P) => readonly T[],
  ) {}

  then<A = P, B = never>(
    fulfilled?: ((page: P) => A | PromiseLike<A>) | null,
    rejected?: ((reason: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    return this.fetchPage(undefined).then(fulfilled, rejected);
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<T, void, undefined> {
    let page = await this.fetchPage(undefined);
    yield* this.itemsOf(page);
    while (page.nextCursor !== undefined) {
      page = await this.fetchPage(page.nextCursor);
      yield* this.itemsOf(page);
    }
  }
}
