"""What a type checker sees of memoized functions; `mypy --strict` checks this file too."""

import asyncio
from typing import assert_type

import kvmap


def test_memoized_functions_keep_their_types() -> None:
    with kvmap.open(":memory:") as d:

        @d.memoize
        def area(width: int, height: int = 1) -> int:
            return width * height

        @d.memoize(ttl=60, version="2")
        def name(n: int) -> str:
            return str(n)

        @d.memoize(ttl=60)
        async def words(url: str, *, most: int = 3) -> list[str]:
            return [url] * most

        class Shop:
            @d.memoize(ignore=["self"])
            def price(self, item: str) -> float:
                return len(item) / 2

            @d.memoize(ignore=["self"])
            async def stock(self, item: str) -> int:
                return len(item)

            @staticmethod
            @d.memoize
            def tax(n: int) -> int:
                return n

        shop = Shop()
        assert_type(area(2, height=3), int)
        assert_type(area.__wrapped__(1, 2), int)
        assert_type(name(1), str)
        assert_type(name.refresh(1), str)
        assert_type(name.forget(n=1), bool)
        assert_type(name.forget_all(), int)
        assert_type(name.cache_info().hits, int)
        assert_type(shop.price("tea"), float)
        assert_type(shop.price.refresh("tea"), float)
        assert_type(Shop.price(shop, "tea"), float)
        assert_type(Shop.tax(2), int)

        async def main() -> None:
            assert_type(await words("x", most=1), list[str])
            assert_type(await words.refresh("x"), list[str])
            assert_type(await shop.stock("tea"), int)

        asyncio.run(main())

        def refused() -> None:
            area("x")  # type: ignore[arg-type]
            area.key()  # type: ignore[call-arg]
            name(1).real  # type: ignore[attr-defined]
            shop.price(3)  # type: ignore[arg-type]
            shop.price.forget("tea", 1)  # type: ignore[call-arg]
            words(1)  # type: ignore[arg-type, unused-coroutine]
            d.memoize(60)  # type: ignore[call-overload]
            d.memoize(expire=60)  # type: ignore[call-overload]

        assert callable(refused)
