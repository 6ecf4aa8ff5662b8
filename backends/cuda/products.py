"""The inner products by the names of precisions."""

from __future__ import annotations

from .product import Product
from .simt_product import SimtProduct
from .tensor_products import BrainProduct, ExactTf32Product, HalfProduct, Tf32Product

PRODUCTS: dict[str, type[Product]] = {
    "fp32": SimtProduct,
    "tf32": Tf32Product,
    "tf32x3": ExactTf32Product,
    "fp16": HalfProduct,
    "bf16": BrainProduct,
}
