"""How others name the parameters of networks that we name as torchvision does: regular expressions, applied one after the other.

A name that no expression fits stays as it is. Where timm and torchvision agree (ResNet, DenseNet) there is nothing to say.
"""

from __future__ import annotations

MOBILENET_V2_DEPTHS = (1, 2, 3, 4, 3, 3, 1)
"""Blocks of each stage: timm counts them within their stage, torchvision through the whole network."""

WITHOUT_EXPANSION = r"^(blocks\.0\.\d+)\."
EXPANDED = r"^(blocks\.[1-9]\.\d+)\."

TIMM_VGG = (
    (r"^pre_logits\.fc1\.", "classifier.0."),
    (r"^pre_logits\.fc2\.", "classifier.3."),
    (r"^head\.fc\.", "classifier.6."),
)

TIMM_MOBILENET_V2 = (
    (r"^conv_stem\.", "features.0.0."),
    (r"^bn1\.", "features.0.1."),
    (r"^conv_head\.", "features.18.0."),
    (r"^bn2\.", "features.18.1."),
    (r"^classifier\.", "classifier.1."),
    (WITHOUT_EXPANSION + r"conv_dw\.", r"\1.conv.0.0."),
    (WITHOUT_EXPANSION + r"bn1\.", r"\1.conv.0.1."),
    (WITHOUT_EXPANSION + r"conv_pw\.", r"\1.conv.1."),
    (WITHOUT_EXPANSION + r"bn2\.", r"\1.conv.2."),
    (EXPANDED + r"conv_pw\.", r"\1.conv.0.0."),
    (EXPANDED + r"bn1\.", r"\1.conv.0.1."),
    (EXPANDED + r"conv_dw\.", r"\1.conv.1.0."),
    (EXPANDED + r"bn2\.", r"\1.conv.1.1."),
    (EXPANDED + r"conv_pwl\.", r"\1.conv.2."),
    (EXPANDED + r"bn3\.", r"\1.conv.3."),
    *(
        (rf"^blocks\.{stage}\.{block}\.", f"features.{1 + sum(MOBILENET_V2_DEPTHS[:stage]) + block}.")
        for stage, depth in enumerate(MOBILENET_V2_DEPTHS)
        for block in range(depth)
    ),
)

TIMM_EFFICIENTNET = (
    (r"^conv_stem\.", "features.0.0."),
    (r"^bn1\.", "features.0.1."),
    (r"^conv_head\.", "features.8.0."),
    (r"^bn2\.", "features.8.1."),
    (r"^classifier\.", "classifier.1."),
    (WITHOUT_EXPANSION + r"conv_dw\.", r"\1.block.0.0."),
    (WITHOUT_EXPANSION + r"bn1\.", r"\1.block.0.1."),
    (WITHOUT_EXPANSION + r"se\.conv_reduce\.", r"\1.block.1.fc1."),
    (WITHOUT_EXPANSION + r"se\.conv_expand\.", r"\1.block.1.fc2."),
    (WITHOUT_EXPANSION + r"conv_pw\.", r"\1.block.2.0."),
    (WITHOUT_EXPANSION + r"bn2\.", r"\1.block.2.1."),
    (EXPANDED + r"conv_pw\.", r"\1.block.0.0."),
    (EXPANDED + r"bn1\.", r"\1.block.0.1."),
    (EXPANDED + r"conv_dw\.", r"\1.block.1.0."),
    (EXPANDED + r"bn2\.", r"\1.block.1.1."),
    (EXPANDED + r"se\.conv_reduce\.", r"\1.block.2.fc1."),
    (EXPANDED + r"se\.conv_expand\.", r"\1.block.2.fc2."),
    (EXPANDED + r"conv_pwl\.", r"\1.block.3.0."),
    (EXPANDED + r"bn3\.", r"\1.block.3.1."),
    *((rf"^blocks\.{stage}\.", f"features.{stage + 1}.") for stage in range(7)),
)

FIRST_TORCHVISION_DENSENET = ((r"\.(norm|relu|conv)\.([12])\.", r".\1\2."),)
"""In the files that torchvision offers for DenseNet, made in 2017, the layers inside a dense layer are `norm.1`, `conv.1`."""

namings = {
    "timm (VGG)": TIMM_VGG,
    "timm (MobileNetV2)": TIMM_MOBILENET_V2,
    "timm (EfficientNet)": TIMM_EFFICIENTNET,
    "torchvision (first DenseNet files)": FIRST_TORCHVISION_DENSENET,
}
