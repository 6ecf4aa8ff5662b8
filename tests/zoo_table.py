"""What is known about every model of the zoo: its size by the paper or the reference implementation, and at which shapes CI runs it."""

from __future__ import annotations

import dataclasses as dc
from collections.abc import Mapping

TORCHVISION = "torchvision 0.28: sum of numel over parameters(), FlopCounterMode / 2"
ALEXNET = (
    "by hand, layer by layer: parameters 34,944 + 307,456 + 885,120 + 663,936 + 442,624 + 37,752,832 + 16,781,312 + 4,097,000; "
    "multiply-adds (millions) 105.415 + 223.949 + 149.520 + 112.140 + 74.760 + 37.749 + 16.777 + 4.096"
)
NIN_CIFAR10 = (
    "by hand: parameters 14,592 + 30,880 + 15,456 + 460,992 + 2 * 37,056 + 331,968 + 37,056 + 1,930 as in the authors' model for Caffe; "
    "multiply-adds (millions) 14.746 + 31.457 + 15.729 + 117.965 + 2 * 9.437 + 21.234 + 2.359 + 0.123"
)
NIN_IMAGENET = (
    "by hand: parameters 34,944 + 2 * 9,312 + 614,656 + 2 * 65,792 + 885,120 + 2 * 147,840 + 3,539,968 + 1,049,600 + 1,025,000; "
    "multiply-adds (millions) 101.617 + 2 * 26.874 + 447.898 + 2 * 47.776 + 149.520 + 2 * 24.920 + 127.402 + 37.749 + 36.864"
)
TIMM_MOBILENET = "timm 1.0.31, mobilenetv1_100: sum of numel over parameters(), FlopCounterMode / 2; the paper: 569 million, 4.2 million"
MOBILENET_HALF = "timm 1.0.31, mobilenetv1_100 with channel_multiplier=0.5; the paper's table 6: 149 million, 1.3 million"
FCN = (
    "by hand, the paper's table 1 has 134 million: 14,714,688 of VGG-16, 102,764,544 + 16,781,312 + 86,037 of the head; "
    "multiply-adds (billions) at 698, 349, 175, 88, 44 and 16 positions a side 18.802 + 26.940 + 45.158 + 45.676 + 13.703 + 30.624"
)
TIMM = "timm 1.0: sum of numel over parameters(), FlopCounterMode / 2"
BOTNET50 = (
    "by hand: ResNet-50 less three 3 x 3 convolutions, 3 * 2,359,296, with query, key and value, 3 * 786,432, and positions, "
    "2 * 128 * (27 + 13 + 13), instead; the paper says 20.8 million. Products: 346,816,512 fewer, then at 14 x 14 pixels 196,288,512 more "
    "and at 7 x 7 twice 41,345,024"
)
NONLOCAL_RESNET50 = (
    "by hand: ResNet-50 and three times (1024 + 1) * 512, (512 + 1) * 1024 and a batch norm of 2 * 1024; "
    "products: 196 * 4 * 1024 * 512 + 2 * 196 * 196 * 512 more"
)
RESNET164_V2 = (
    "by hand, w = 16, 32, 64: 17 blocks of 17 w^2 + 12 w a stage; first blocks 4,704 and twice 23 w^2 + 8 w; 432 + 512 + 2,570; "
    "the paper says 1.7 million. Products: w^2 * pixels is always 262,144, times 51 * 17 + 18 + 2 * 29; 442,368 + 2,560"
)
GOOGLENET = "by hand from the channels of the paper's table 1, with biases (its own sums are rough); Caffe's bvlc_googlenet has as many"
AMOEBANET = (
    "by hand from the cells in tensorflow/tpu's amoeba_net (no installed library has them); "
    "the paper's tables say 86.7 M parameters, 23.1 B multiply-adds, and 3.2 M for CIFAR-10"
)


@dc.dataclass(frozen=True)
class Row:
    """A model of the zoo."""

    model: str
    parameters: int
    multiply_adds: float
    """At the model's typical input shapes."""
    source: str
    """Where the two figures come from."""
    shapes: Mapping[str, tuple[int, ...]]
    """Input shapes at which CI compares numbers: small, but no layer loses its meaning."""
    below: Mapping[str, int] = dc.field(default_factory=dict)
    """For inputs that are indices: every number is below this one."""
    ci: bool = True
    """False: numbers are compared in the sweep only, because CI has a smaller network of this family."""


CLASSICS = [
    Row("lenet5", 61_706, 416_520, "by hand: 61,706 = 156 + 2,416 + 48,120 + 10,164 + 850", {"image": (3, 1, 28, 28)}),
    Row("mlp", 2_913_290, 2_910_208, "by hand: 784 * 1024 + 2 * 1024 * 1024 + 1024 * 10, and 3082 biases", {"image": (3, 1, 28, 28)}),
    Row("alexnet", 60_965_224, 724_406_816, ALEXNET, {"image": (2, 3, 99, 113)}),
    Row("alexnet_single", 61_100_840, 714.2e6, TORCHVISION, {"image": (2, 3, 95, 127)}),
    Row("vgg11", 132_863_336, 7.609e9, TORCHVISION, {"image": (2, 3, 45, 64)}),
    Row("vgg13", 133_047_848, 11.308e9, TORCHVISION, {"image": (1, 3, 45, 64)}, ci=False),
    Row("vgg16", 138_357_544, 15.470e9, TORCHVISION, {"image": (1, 3, 45, 64)}, ci=False),
    Row("vgg16_bn", 138_365_992, 15.470e9, TORCHVISION, {"image": (1, 3, 32, 32)}, ci=False),
    Row("vgg19", 143_667_240, 19.632e9, TORCHVISION, {"image": (1, 3, 45, 64)}, ci=False),
    Row("nin_cifar10", 966_986, 222_486_528, NIN_CIFAR10, {"image": (2, 3, 32, 41)}),
    Row("nin_imagenet", 7_595_176, 1_100_188_800, NIN_IMAGENET, {"image": (1, 3, 97, 117)}),
    Row("squeezenet1_0", 1_248_424, 818.9e6, TORCHVISION, {"image": (1, 3, 67, 90)}),
    Row("squeezenet1_1", 1_235_496, 349.2e6, TORCHVISION, {"image": (2, 3, 67, 90)}),
    Row("mobilenet_v1", 4_231_976, 568.7e6, TIMM_MOBILENET, {"image": (2, 3, 64, 77)}),
    Row("mobilenet_v1_050", 1_331_592, 149e6, MOBILENET_HALF, {"image": (1, 3, 64, 77)}, ci=False),
    Row("fcn32s", 136_152_917, 181.366e9, f"{FCN}; scores: 1,806,336", {"image": (1, 3, 9, 20)}, ci=False),
    Row("fcn16s", 134_815_994, 181.448e9, f"{FCN}; scores: 7,056 + 10,773 + 451,584", {"image": (1, 3, 9, 20)}, ci=False),
    Row("fcn8s", 134_489_759, 181.529e9, f"{FCN}; scores: 2 * 7,056 + 10,773 + 5,397 + 112,896", {"image": (1, 3, 9, 20)}, ci=False),
]

RESIDUAL = [
    Row("resnet18", 11_689_512, 1.814e9, TORCHVISION, {"image": (2, 3, 64, 64)}),
    Row("resnet34", 21_797_672, 3.664e9, TORCHVISION, {"image": (1, 3, 64, 64)}, ci=False),
    Row("resnet50", 25_557_032, 4.089e9, TORCHVISION, {"image": (1, 3, 64, 64)}),
    Row("resnet101", 44_549_160, 7.801e9, TORCHVISION, {"image": (1, 3, 64, 64)}, ci=False),
    Row("resnet152", 60_192_808, 11.514e9, TORCHVISION, {"image": (1, 3, 64, 64)}, ci=False),
    Row("resnet50_v2", 25_549_352, 4.089e9, f"resnetv2_50 of {TIMM}", {"image": (1, 3, 64, 64)}),
    Row("resnet101_v2", 44_541_480, 7.801e9, f"resnetv2_101 of {TIMM}", {"image": (1, 3, 64, 64)}, ci=False),
    Row("resnet152_v2", 60_185_128, 11.514e9, f"resnetv2_152 of {TIMM}", {"image": (1, 3, 64, 64)}, ci=False),
    Row("resnet164_v2", 1_703_258, 247.65e6, RESNET164_V2, {"image": (1, 3, 32, 32)}, ci=False),
    Row("se_resnet50", 28_088_024, 4.092e9, f"seresnet50 of {TIMM}", {"image": (1, 3, 64, 64)}),
    Row("se_resnet101", 49_326_872, 7.806e9, f"seresnet101 of {TIMM}", {"image": (1, 3, 64, 64)}, ci=False),
    Row("resnext50_32x4d", 25_028_904, 4.230e9, TORCHVISION, {"image": (1, 3, 64, 64)}),
    Row("resnext101_32x8d", 88_791_336, 16.414e9, TORCHVISION, {"image": (1, 3, 64, 64)}, ci=False),
    Row("wide_resnet50_2", 68_883_240, 11.398e9, TORCHVISION, {"image": (1, 3, 64, 64)}, ci=False),
    Row("densenet121", 7_978_856, 2.834e9, TORCHVISION, {"image": (1, 3, 64, 64)}),
    Row("densenet169", 14_149_480, 3.360e9, TORCHVISION, {"image": (1, 3, 64, 64)}, ci=False),
    Row("densenet201", 20_013_928, 4.291e9, TORCHVISION, {"image": (1, 3, 64, 64)}, ci=False),
    Row("botnet50", 20_852_008, 4.0213e9, BOTNET50, {"image": (1, 3, 96, 128)}),
    Row("nonlocal_resnet50", 27_658_792, 4.5396e9, NONLOCAL_RESNET50, {"image": (1, 3, 64, 96)}),
    Row("convnext_tiny", 28_589_128, 4.456e9, TORCHVISION, {"image": (1, 3, 64, 64)}),
    Row("convnext_small", 50_223_688, 8.684e9, TORCHVISION, {"image": (1, 3, 64, 64)}, ci=False),
    Row("deeplab_v3_resnet50", 39_638_869, 168.65e9, f"deeplabv3_resnet50 of {TORCHVISION}", {"image": (1, 3, 97, 65)}),
    Row("deeplab_v3_resnet101", 58_630_997, 248.67e9, f"deeplabv3_resnet101 of {TORCHVISION}", {"image": (1, 3, 97, 65)}, ci=False),
]

INCEPTION = [
    Row("googlenet", 6_624_904, 1.498e9, TORCHVISION, {"image": (2, 3, 64, 64)}),
    Row("googlenet_auxiliary", 13_004_888, 1.507e9, TORCHVISION, {"image": (1, 3, 72, 96)}),
    Row("googlenet_paper", 6_998_552, 1.583e9, GOOGLENET, {"image": (1, 3, 64, 64)}),
    Row("inception_v3", 23_834_568, 5.713e9, TORCHVISION, {"image": (1, 3, 75, 75)}),
    Row("inception_v3_auxiliary", 27_161_264, 5.719e9, TORCHVISION, {"image": (1, 3, 299, 299)}, ci=False),
    Row("inception_v4", 42_679_816, 12.254e9, TIMM, {"image": (1, 3, 75, 75)}),
    Row("amoebanet_a", 86_718_797, 23.134e9, AMOEBANET, {"image": (1, 3, 75, 75)}, ci=False),
    Row("amoebanet_a_small", 3_218_266, 509.7e6, AMOEBANET, {"image": (1, 3, 16, 16)}),
]

MOBILE = [
    Row("mobilenet_v2", 3_504_872, 300.8e6, TORCHVISION, {"image": (2, 3, 64, 64)}),
    Row("mobilenet_v3_large", 5_483_032, 216.6e6, TORCHVISION, {"image": (2, 3, 64, 64)}),
    Row("mobilenet_v3_small", 2_542_856, 56.51e6, TORCHVISION, {"image": (2, 3, 64, 64)}),
    Row("mnasnet1_0", 4_383_312, 314.4e6, TORCHVISION, {"image": (2, 3, 64, 64)}),
    Row("mnasnet_a1", 3_887_038, 311.6e6, "timm 1.0 semnasnet_100: numel of parameters(), FlopCounterMode / 2", {"image": (2, 3, 64, 64)}),
    Row("efficientnet_b0", 5_288_548, 385.8e6, TORCHVISION, {"image": (2, 3, 64, 64)}),
    Row("efficientnet_b1", 7_794_184, 686.8e6, TORCHVISION, {"image": (1, 3, 48, 48)}, ci=False),
    Row("efficientnet_b2", 9_109_994, 993.6e6, TORCHVISION, {"image": (1, 3, 64, 64)}, ci=False),
    Row("efficientnet_b3", 12_233_232, 1.827e9, TORCHVISION, {"image": (1, 3, 64, 64)}, ci=False),
    Row("efficientnet_b4", 19_341_616, 4.394e9, TORCHVISION, {"image": (1, 3, 64, 64)}, ci=False),
    Row("efficientnet_b5", 30_389_784, 10.266e9, TORCHVISION, {"image": (1, 3, 64, 64)}, ci=False),
    Row("efficientnet_b6", 43_040_704, 19.068e9, TORCHVISION, {"image": (1, 3, 64, 64)}, ci=False),
    Row("efficientnet_b7", 66_347_960, 37.746e9, TORCHVISION, {"image": (1, 3, 64, 64)}, ci=False),
    Row("shufflenet_v2_x0_5", 1_366_792, 40.48e6, TORCHVISION, {"image": (2, 3, 64, 64)}, ci=False),
    Row("shufflenet_v2_x1_0", 2_278_604, 144.9e6, TORCHVISION, {"image": (2, 3, 64, 64)}),
    Row("shufflenet_v2_x1_5", 3_503_624, 295.8e6, TORCHVISION, {"image": (1, 3, 64, 64)}, ci=False),
    Row("shufflenet_v2_x2_0", 7_393_996, 583.3e6, TORCHVISION, {"image": (1, 3, 64, 64)}, ci=False),
]

UNET = (
    "by hand from the maps of the paper's figure 1: 18,842,048 down, 2,786,240 up-convolutions, 9,402,240 up, 130 at the end; "
    "multiply-adds (billions) in the same order"
)
DCGAN = "PyTorch's example dcgan; multiply-adds by hand: 3 * 33,554,432 + 3,145,728"
PIXELCNN = "by hand, with what masks hide: 1,600 + 7 * 3,392 + 2 * 1,056 + 66; 28 * 28 * 26,976"
PIXELCNN_CIFAR10 = "by hand, with what masks hide: 37,888 + 15 * 213,504 + 263,168 + 1,049,600 + 787,200; 32 * 32 * 5,329,664"
CONV_LSTM = "the paper's table 1; multiply-adds by hand: 10 * 256 positions *"
CONV_LSTM_CELL = "by hand: 4 * 128 * (16 + 128) * 25 + 512 + 3 * 128; 256 positions"
DEEPFACE = (
    "by hand (the paper says more than 120 million): 11,648 + 41,488 + 62,774,800 + 7,850,000 + 2,829,456 + 28,905,472 + 16,510,910; "
    "multiply-adds (millions) 234.225 + 164.602 + 62.726 + 7.840 + 2.822 + 28.901 + 16.507"
)
PIXELS = [
    Row("unet", 31_030_658, 150.428e9, f"{UNET}: 72.477 + 5.631 + 72.300 + 0.019", {"image": (1, 1, 188, 204)}, ci=False),
    Row("unet_resize", 31_030_658, 218.154e9, f"{UNET}: 67.797 + 34.360 + 115.964 + 0.034", {"image": (1, 1, 32, 48)}),
    Row("dcgan_generator", 3_576_704, 104_628_224, f"{DCGAN} + 819,200", {"noise": (3, 100, 1, 1)}),
    Row("dcgan_discriminator", 2_765_568, 103_817_216, f"{DCGAN} + 8,192", {"image": (3, 3, 64, 64)}),
    Row("vae_encoder", 846_728, 2_519_040, "by hand: 544 + 32,832 + 803,072 + 2 * 5,140", {"image": (3, 1, 28, 28)}),
    Row("vae_decoder", 844_641, 2_513_920, "by hand: 5,376 + 805,952 + 32,800 + 513", {"latent": (3, 20)}),
    Row("vae", 1_691_369, 5_032_960, "by hand: encoder + decoder", {"image": (3, 1, 28, 28), "noise": (3, 20)}),
    Row("pixelcnn", 27_522, 21_149_184, PIXELCNN, {"image": (3, 1, 13, 10)}),
    Row("pixelcnn_cifar10", 5_340_416, 5_457_575_936, PIXELCNN_CIFAR10, {"image": (1, 3, 9, 11)}),
    Row("conv_lstm_cell", 1_844_096, 471_859_200, CONV_LSTM_CELL, {"x": (2, 16, 7, 6), "h": (2, 128, 7, 6), "c": (2, 128, 7, 6)}),
    Row("conv_lstm1", 13_524_496, 34_613_493_760, f"{CONV_LSTM} 13,520,896 weights", {"frames": (1, 2, 1, 24, 20)}, ci=False),
    Row("conv_lstm2", 10_042_896, 25_700_597_760, f"{CONV_LSTM} 10,039,296 weights", {"frames": (2, 2, 1, 24, 20)}),
    Row("conv_lstm3", 7_585_296, 19_409_141_760, f"{CONV_LSTM} 7,581,696 weights", {"frames": (1, 2, 1, 24, 20)}, ci=False),
    Row("lecun_net3", 1_226, 1_136, "the paper's table; multiply-adds by hand: 64 * 9 + 16 * 25 + 160", {"image": (3, 1, 16, 16)}),
    Row("deepface", 118_923_774, 517_624_448, DEEPFACE, {"image": (1, 3, 152, 152)}, ci=False),
]

TEXT_CNN = "by hand: parameters 18,765 * 300 + 100 * (300 * (3 + 4 + 5) + 3) + 602; multiply-adds 30,000 * (3 * 62 + 4 * 61 + 5 * 60) + 600"
WAVEFORM = "by hand by the paper's table 1, no bias beside batch norms, at 8,000, 2,000, 500, 125 and 32 positions; it says"
KEYWORD_CNN = "the paper's table 2: 244.2 thousand, 9.7 million; exactly 10,240 + 163,840 + 65,536 + 4,096 + 512 and 292 biases"
P4_CNN = (
    "by hand, the paper says 25 thousand: 90 + 10, 5 * 3,610, 6,410 and batch norms of 6 * 20; "
    "multiply-adds 360 * 26^2 + 14,400 * (24^2 + 10^2 + 8^2 + 6^2 + 4^2) + 25,600"
)
GCN = "by hand: 1433 * 16 + 16 * 7 of the paper's equation 9, without biases; products, times 2708 nodes: the same"
C3D = (
    "by hand: convolutions 27,655,936, then 8193 * 4096 + 4097 * 4096 + 4097 * 487; multiply-adds (billions) 1.040 + 11.098 + 5.549 + "
    "11.098 + 2.775 + 5.549 + 2 * 0.694 + 0.052"
)
CLIP = {"video": (1, 3, 5, 24, 32)}
OTHER_AXES = [
    Row("text_cnn", 5_990_402, 21_900_600, TEXT_CNN, {"words": (3, 23)}, below={"words": 18_765}),
    Row("waveform_m3", 220_682, 557_058_560, f"{WAVEFORM} 0.2 million", {"waveform": (2, 1, 4001)}, ci=False),
    Row("waveform_m5", 558_090, 278_533_120, f"{WAVEFORM} 0.5 million", {"waveform": (2, 1, 4001)}),
    Row("waveform_m11", 1_784_202, 226_169_856, f"{WAVEFORM} 1.8 million", {"waveform": (2, 1, 4001)}, ci=False),
    Row("waveform_m18", 3_679_882, 399_381_504, f"{WAVEFORM} 3.7 million", {"waveform": (2, 1, 4001)}, ci=False),
    Row("keyword_cnn", 244_516, 9_705_984, KEYWORD_CNN, {"features": (3, 1, 32, 40)}),
    Row("keyword_cnn_sound", 244_516, 16_614_144, f"{KEYWORD_CNN}; products 32 * 257 * (800 + 40) more", {"sound": (2, 1, 5360)}),
    Row("c3d", 79_991_015, 38.549e9, C3D, {"video": (1, 3, 9, 20, 20)}),
    Row("r3d_18", 33_371_472, 40.697e9, TORCHVISION, CLIP, ci=False),
    Row("mc3_18", 11_695_440, 43.343e9, TORCHVISION, CLIP, ci=False),
    Row("r2plus1d_18", 31_505_325, 40.519e9, TORCHVISION, CLIP),
    Row("gcn", 23_040, 62_392_320, GCN, {"features": (2709, 1433), "edges": (2, 9001), "weights": (9001,)}, below={"edges": 2708}),
    Row("p4_cnn", 24_680, 11_673_760, P4_CNN, {"image": (3, 1, 28, 28)}),
]

ROWS = {row.model: row for group in (CLASSICS, RESIDUAL, INCEPTION, MOBILE, PIXELS, OTHER_AXES) for row in group}
